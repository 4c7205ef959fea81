//! `esamsat copy`: moves an embedded installation over to PostgreSQL.
//!
//! ```text
//!  take the whole file · fingerprint ─► begin or take up the copy ─► pages, part by part
//!    ─► read back and compare ─► verify ─► mark the source as moved ─► open the target
//! ```
//!
//! At every moment at most one of both can be used: the source until it is marked, the target from then on.
//! Whatever kills it, the same command goes on. One thread reads the source while the other page is written.

mod progress;

use crate::{
    config::{Config, DatabaseUrl, Place},
    output::{self, Fault, line},
};
use anyhow::{Context, bail};
use clap::Args;
use domain::Clock;
use engine::{SystemClock, verify::Report};
use progress::Progress;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use store::copy::{Cursor, Fingerprint, Page, Part};
use store_postgres::{Import, ImportError, PostgresStore};
use store_sqlite::{Export, Moved, OpenError};
use tokio::{sync::mpsc, task::spawn_blocking, time::Instant};

/// Pages that are read ahead.
const PAGES_AHEAD_MAX: usize = 2;

/// From where to where.
#[derive(Args)]
pub struct Arguments {
    /// The embedded database's file, or the folder that it is in
    #[arg(long, value_name = "sqlite:PATH", value_parser = source)]
    from: PathBuf,

    /// The PostgreSQL database that takes everything over; empty, or with an unfinished copy
    #[arg(long, value_name = "URL", required_unless_present = "undo", conflicts_with = "undo")]
    to: Option<DatabaseUrl>,

    /// Take back that the embedded database was moved, so that it is used again
    #[arg(long)]
    undo: bool,

    /// Rows that are written in one transaction
    #[arg(long, default_value_t = 4_000, value_name = "ROWS", value_parser = page_rows)]
    page: usize,
}

fn source(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty());
    let path = path.ok_or("write sqlite: and the path of the embedded database")?;
    let path = PathBuf::from(path);
    Ok(if path.is_dir() { path.join("esamsat.sqlite") } else { path })
}

fn page_rows(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rows| (1..=50_000).contains(rows)).ok_or_else(|| "from 1 to 50000".to_owned())
}

/// Copies, compares, and marks.
pub async fn run(place: &Place, arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let from = arguments.from;
    let Some(to) = arguments.to else { return take_back(place, &from) };
    let address = config.address_of(&to)?;
    let to = to.to_string();
    let began = Instant::now();
    let mut progress = Progress::default();

    progress.begin("reading what there is", 0);
    let opened = from.clone();
    let (export, fingerprint) = spawn_blocking(move || -> anyhow::Result<(Export, Fingerprint)> {
        let export = Export::open(&opened)?;
        let fingerprint = export.fingerprint().context("failed to read the embedded database")?;
        Ok((export, fingerprint))
    })
    .await??;
    let moved = Moved { target: to.clone(), fingerprint: fingerprint.text(), at: SystemClock.now() };
    if let Some(before) = export.moved()
        && (&before.target, &before.fingerprint) != (&moved.target, &moved.fingerprint)
    {
        return Err(OpenError::Moved { path: from, target: before.target.clone() }.into());
    }
    let begun = PostgresStore::import(address, &from.display().to_string(), &fingerprint).await;
    let mut import = begun.map_err(|error| match (error, export.moved()) {
        (ImportError::Open(error), _) => anyhow::Error::from(error),
        (_, Some(before)) => OpenError::Moved { path: from.clone(), target: before.target.clone() }.into(),
        (refused, None) => Fault::Refused(refused.to_string()).into(),
    })?;
    let is_resumed = import.is_resumed();
    let was_moved = export.moved().is_some();
    match (was_moved, import.is_finished()) {
        (true, true) => {
            progress.end();
            let facts = json!({ "from": from.display().to_string(), "to": to, "moved_before": true });
            let sentence = format!("{} was moved to {to} before; there is nothing to do.", from.display());
            output::done(place.json, sentence, &facts);
            return Ok(());
        }
        (false, true) => {
            return Err(Fault::Refused(format!(
                "{to} holds a finished copy of {} already, and was used since, perhaps; name an empty database",
                from.display()
            ))
            .into());
        }
        (true, false) if !is_resumed => {
            return Err(Fault::Refused(format!(
                "{} was moved to {to}, and that is empty now; to begin again from what was moved, take the move \
                 back first: esamsat copy --undo --from sqlite:{}",
                from.display(),
                from.display()
            ))
            .into());
        }
        (_, false) => {}
    }

    let export = copy(export, &mut import, &fingerprint, arguments.page, &mut progress).await?;
    let copied_in = began.elapsed();
    compare(&import, &fingerprint, &mut progress).await?;
    progress.begin("proving the ledger", 0);
    import.analyze().await.context("failed to analyze the copied tables")?;
    let report = engine::verify::verify(import.store()).await.context("failed to verify the copy")?;
    if !report.is_clean() {
        bail!(
            "the copy's ledger has {} problems, the first of them: {}; nothing was moved. See whether `esamsat \
             verify` finds them in {} as well",
            report.problem_count,
            report.problems.first().map_or("", String::as_str),
            from.display()
        );
    }
    // From here on the source is used no more, and the target not yet: a kill in between costs a second run.
    spawn_blocking(move || export.mark_moved(&moved)).await?.context("failed to mark the source as moved")?;
    import.finish().await.context(
        "failed to open the copy for use, and the embedded database is marked as moved; run the same command \
         again",
    )?;
    progress.end();

    let seconds = began.elapsed().as_secs_f64();
    if place.json {
        output::json(&json!({
            "from": from.display().to_string(),
            "to": to,
            "moved_before": false,
            "is_resumed": is_resumed,
            "rows": named(&fingerprint),
            "copy_seconds": copied_in.as_secs_f64(),
            "seconds": seconds,
            "verify": report,
        }));
    } else {
        print(&from, &to, &fingerprint, seconds, &report);
    }
    Ok(())
}

fn take_back(place: &Place, from: &Path) -> anyhow::Result<()> {
    let Some(moved) = store_sqlite::take_back(from)? else {
        return Err(
            Fault::Refused(format!("{} was not moved; it can be used as it is", from.display())).into()
        );
    };
    let facts = json!({ "from": from.display().to_string(), "was_moved_to": moved.target });
    let sentence = format!(
        "{} can be used again. What happened in {} since the move is not in it: never use both.",
        from.display(),
        moved.target
    );
    output::done(place.json, sentence, &facts);
    Ok(())
}

/// Hands over what is missing yet, and gives the source back.
async fn copy(
    export: Export,
    import: &mut Import,
    fingerprint: &Fingerprint,
    page_rows: usize,
    progress: &mut Progress,
) -> anyhow::Result<Export> {
    let missing: Vec<(Part, Cursor)> = Part::ALL
        .into_iter()
        .map(|part| (part, import.reached(part)))
        .filter(|(_, reached)| !reached.is_done)
        .map(|(part, reached)| (part, reached.cursor))
        .collect();
    let mut done: u64 = Part::ALL.into_iter().map(|part| import.reached(part).tally.rows).sum();
    progress.begin("copying", fingerprint.rows.values().sum());
    progress.start_at(done);

    let (sender, mut pages) = mpsc::channel(PAGES_AHEAD_MAX);
    let reading = spawn_blocking(move || read(export, missing, page_rows, &sender));
    let written = async {
        while let Some(page) = pages.recv().await {
            let (part, rows) = (page.part, page.tally.rows);
            import.write(page).await.with_context(|| {
                format!("failed to copy table {}; run the same command again, and it goes on", part.name())
            })?;
            done += rows;
            progress.show(part.name(), done);
        }
        anyhow::Ok(())
    };
    let written = written.await;
    // A reader whose pages nobody takes any more ends.
    drop(pages);
    let export = reading.await?;
    written?;
    export.context("failed to read the embedded database")
}

fn read(
    export: Export,
    missing: Vec<(Part, Cursor)>,
    page_rows: usize,
    pages: &mpsc::Sender<Page>,
) -> Result<Export, store::Error> {
    for (part, mut cursor) in missing {
        loop {
            let page = export.page(part, &cursor, page_rows)?;
            cursor.clone_from(&page.reached);
            let is_last = page.is_last;
            if pages.blocking_send(page).is_err() {
                return Ok(export);
            }
            if is_last {
                break;
            }
        }
    }
    Ok(export)
}

/// What was counted in the source, what was read of it, and what now stands in the target are the same.
async fn compare(import: &Import, fingerprint: &Fingerprint, progress: &mut Progress) -> anyhow::Result<()> {
    progress.begin("comparing", fingerprint.rows.values().sum());
    let (mut done, mut different) = (0, Vec::new());
    for part in Part::ALL {
        let counted = fingerprint.rows.get(&part).copied().unwrap_or(0);
        let copied = import.reached(part).tally;
        let stands = import
            .tally(part, |rows| progress.show(part.name(), done + rows))
            .await
            .with_context(|| format!("failed to read the copied table {} back", part.name()))?;
        done += stands.rows;
        if copied.rows != counted {
            different.push(format!("{}: of {counted} rows {} could be read", part.name(), copied.rows));
        } else if stands.rows != copied.rows {
            different.push(format!("{}: {} rows became {}", part.name(), copied.rows, stands.rows));
        } else if stands != copied {
            different.push(format!("{}: some of {} rows differ", part.name(), copied.rows));
        }
    }
    if !different.is_empty() {
        bail!(
            "the copy differs from its source ({}); nothing was moved. Run `esamsat verify` on the embedded \
             database, empty the target, and copy again",
            different.join("; ")
        );
    }
    Ok(())
}

fn named(fingerprint: &Fingerprint) -> BTreeMap<&'static str, u64> {
    fingerprint.rows.iter().map(|(part, rows)| (part.name(), *rows)).collect()
}

fn print(from: &Path, to: &str, fingerprint: &Fingerprint, seconds: f64, report: &Report) {
    let rows = |part: Part| fingerprint.rows.get(&part).copied().unwrap_or(0);
    line(format!("{} was moved to {to} in {seconds:.1} s:", from.display()));
    line(format!(
        "  {} partners, {} products, {} invoices, {} postings, {} manual entries, {} events",
        rows(Part::Partner),
        rows(Part::Product),
        rows(Part::Invoice),
        rows(Part::Posting),
        rows(Part::Entry),
        rows(Part::Event)
    ));
    line("  both ends tell the same, row by row");
    line(format!("  the ledger was proved again: {} accounts, everything holds", report.checked.accounts));
    line(format!("{} stays as it was, and is not opened for use any more.", from.display()));
    line("From now on, name the target with --database, or with `database` in the configuration.");
}
