//! The specs that messages are fuzzed by: those that are shipped, and one with all that they do not have.

use iso8583::Spec;
use std::sync::LazyLock;

static PACKED: LazyLock<Spec> = LazyLock::new(|| {
    Spec::from_toml(include_str!("../../tests/packed.toml")).expect("the tests read it as well")
});

/// One of them.
pub fn pick(which: u8) -> &'static Spec {
    let names: Vec<_> = Spec::builtin_names().collect();
    names
        .get(usize::from(which) % (names.len() + 1))
        .map_or(&PACKED, |name| Spec::builtin(name).expect("it is shipped"))
}
