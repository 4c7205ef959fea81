//! `esamsat`: the one binary.

/// The system's allocator keeps an arena a thread, and under load four times the memory in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    esamsat::main()
}
