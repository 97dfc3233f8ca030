//! What is done to a store that no server has open: check, export, import, compact.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::engine::Engine;
use crate::error::Error;
use crate::file::{create_new, directory, publish};
use crate::options::Options;
use crate::range::{KeyRange, Read, Row};
use crate::table::Table;

/// How far it is. Said after each page of rows.
///
/// ```
/// let progress = fanfare_store::Progress { done: 50, total: 200 };
/// assert_eq!(100 * progress.done / progress.total, 25);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows that are done.
    pub done: u64,
    /// All rows.
    pub total: u64,
}

/// What [`check`] found to be in order.
///
/// ```
/// # use fanfare_store::{Options, Store, Table, check};
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("store.redb");
/// Store::open(&file, Options::default())?.close()?;
/// let checked = check(&file, &mut |_| {})?;
/// assert!(checked.rows.contains(&(Table::Entries, 0)) && checked.bytes > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Rows of each table.
    pub rows: Vec<(Table, u64)>,
    /// Length of the file.
    pub bytes: u64,
}

/// What [`compact`] did.
///
/// ```
/// # use fanfare_store::{Options, Store, compact};
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("store.redb");
/// Store::open(&file, Options::default())?.close()?;
/// let compacted = compact(&file, &mut |_| {})?;
/// assert!(compacted.after <= compacted.before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Length of the file before.
    pub before: u64,
    /// Length of the file after.
    pub after: u64,
}

/// The format of an export's lines.
const FORMAT: u32 = 2;

/// The first line of an export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    rows: u64,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    table: String,
    key: String,
    value: String,
}

type Report<'r> = &'r mut dyn FnMut(Progress);

/// Verifies every page and every row, without a write to the file. For a store that was not closed, of the state that
/// recovery will come to.
///
/// # Errors
///
/// [`Error::Damaged`], and what opening the file can say.
pub fn check(file: impl AsRef<Path>, report: Report<'_>) -> Result<Checked, Error> {
    let engine = Engine::read_only(file.as_ref(), maintenance())?;
    let bytes = engine.bytes()?;
    let rows = walk(&engine, report, &mut |_, _| Ok(()))?;
    Ok(Checked { rows, bytes })
}

/// Writes every row as a line of JSON: table, key and value, the latter in base64. The first line says the format and how
/// many rows follow. Nothing is written to the store's file.
///
/// # Errors
///
/// As [`check`], and [`Error::Output`].
///
/// ```
/// # use fanfare_store::{Options, Store, export};
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("store.redb");
/// Store::open(&file, Options::default())?.close()?;
/// let mut lines = Vec::new();
/// export(&file, &mut lines, &mut |_| {})?;
/// assert_eq!(lines, b"{\"format\":2,\"rows\":0}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export(
    file: impl AsRef<Path>,
    output: &mut dyn Write,
    report: Report<'_>,
) -> Result<u64, Error> {
    let file = file.as_ref();
    let engine = Engine::read_only(file, maintenance())?;
    let rows = total(&engine)?;
    let format = FORMAT;
    let failed = |error| Error::Output(Arc::new(error));
    line(output, &Head { format, rows }).map_err(failed)?;
    walk(&engine, report, &mut |table, row| {
        let table = table.name().to_owned();
        let (key, value) = (BASE64.encode(row.key), BASE64.encode(row.value));
        line(output, &Line { table, key, value }).map_err(failed)
    })?;
    output.flush().map_err(failed)?;
    Ok(rows)
}

/// Makes a new store of an export, and commits `last` after its rows. The file has its name when all of that is safe in it;
/// before, it is `<name>.new`.
///
/// # Errors
///
/// [`Error::Exists`] if the file is there, [`Error::Input`], [`Error::BadImport`] for a line that is not an export's or an export that was cut.
///
/// ```
/// # use fanfare_store::{Batch, Table, check, import};
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("store.redb");
/// let mut export = "{\"format\":2,\"rows\":1}\n{\"table\":\"meta\",\"key\":\"YQ\",\"value\":\"\"}\n".as_bytes();
/// let mut last = Batch::new();
/// last.put(Table::Meta, b"imported", *b"yes");
/// assert_eq!(import(&file, &mut export, &last, &mut |_| {})?, 1);
/// assert!(check(&file, &mut |_| {})?.rows.contains(&(Table::Meta, 2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn import(
    file: impl AsRef<Path>,
    input: &mut dyn BufRead,
    last: &Batch,
    report: Report<'_>,
) -> Result<u64, Error> {
    let file = file.as_ref();
    let path = file.to_path_buf();
    if file.exists() {
        return Err(Error::Exists { file: path });
    }
    if !directory(file).is_dir() {
        return Err(Error::NoDirectory { file: path });
    }
    let (backend, new) = create_new(file)?;
    let filled = Engine::make(Box::new(backend), None, path, maintenance())
        .and_then(|engine| fill(engine, input, last, report, &new));
    if filled.is_err() {
        // What is left is overwritten by the next import or store of this name.
        let _ = fs::remove_file(&new);
    }
    filled
}

/// Gives unused space in the file back, after every row was verified. Needs little space of its own. `report` is of the
/// verification, which is the first part; redb says nothing while it moves pages.
///
/// # Errors
///
/// As [`check`], [`Error::Full`] and [`Error::WriteFailed`].
pub fn compact(file: impl AsRef<Path>, report: Report<'_>) -> Result<Compacted, Error> {
    let options = Options {
        create: false,
        ..maintenance()
    };
    let mut engine = Engine::open(file.as_ref(), options)?;
    // What the tables had no space for is in the log only, and the tables' counts would not have it.
    engine.writable()?;
    let before = engine.bytes()?;
    walk(&engine, report, &mut |_, _| Ok(()))?;
    engine.compact()?;
    engine.close()?;
    let after = fs::metadata(file.as_ref());
    let after = after.map_err(|error| Error::io(file.as_ref(), "read the file", error))?;
    Ok(Compacted {
        before,
        after: after.len(),
    })
}

fn maintenance() -> Options {
    Options {
        verify: true,
        ..Options::default()
    }
}

fn total(engine: &Engine) -> Result<u64, Error> {
    let view = engine.view();
    Table::ALL.into_iter().map(|table| view.rows(table)).sum()
}

/// Every row, in the order of tables and keys. Also compares their number with what the tables say.
fn walk(
    engine: &Engine,
    report: Report<'_>,
    each: &mut dyn FnMut(Table, Row) -> Result<(), Error>,
) -> Result<Vec<(Table, u64)>, Error> {
    let view = engine.view();
    let total = total(engine)?;
    let mut done = 0;
    let mut rows = Vec::new();
    report(Progress { done, total });
    for table in Table::ALL {
        let before = done;
        let mut next = Some(KeyRange::all());
        while let Some(range) = next {
            let page = view.pages(&[Read::new(table, range)])?.pop();
            let page = page.unwrap_or_default();
            done += page.rows.len() as u64;
            page.rows.into_iter().try_for_each(|row| each(table, row))?;
            report(Progress { done, total });
            next = page.next;
        }
        if done - before != view.rows(table)? {
            return Err(Error::Damaged {
                file: view.file().to_path_buf(),
                what: format!("rows of the table `{table}` are missing"),
            });
        }
        rows.push((table, done - before));
    }
    Ok(rows)
}

fn line(output: &mut dyn Write, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, what)?;
    output.write_all(b"\n")
}

fn fill(
    mut engine: Engine,
    input: &mut dyn BufRead,
    last: &Batch,
    report: Report<'_>,
    new: &Path,
) -> Result<u64, Error> {
    let file = engine.view().file().to_path_buf();
    let mut lines = Lines::new(input);
    let bad = |line, why: String| Error::BadImport { line, why };
    let head: Head = lines
        .next()?
        .ok_or_else(|| bad(1, "nothing is there".to_owned()))?;
    if head.format > FORMAT {
        let found = head.format;
        let known = FORMAT;
        let file = "the export".into();
        return Err(Error::NewerFormat { file, found, known });
    }
    let (mut done, total) = (0, head.rows);
    let mut batch = Batch::new();
    report(Progress { done, total });
    while let Some(Line { table, key, value }) = lines.next()? {
        let at = lines.number;
        let table: Table = table
            .parse()
            .map_err(|error: crate::UnknownTable| bad(at, error.to_string()))?;
        let decode = |text| {
            let decoded = BASE64.decode(text);
            decoded.map_err(|error| bad(at, error.to_string()))
        };
        batch.put(table, decode(key)?, decode(value)?);
        batch
            .check(usize::MAX)
            .map_err(|error| bad(at, error.to_string()))?;
        done += 1;
        if batch.len() >= 1_000 || batch.bytes() >= 256 << 10 {
            engine.fill(std::mem::take(&mut batch))?;
            report(Progress { done, total });
        }
    }
    engine.fill(batch)?;
    report(Progress { done, total });
    let kept = self::total(&engine)?;
    if done != total || kept != total {
        let why =
            format!("{total} rows were to follow, and {kept} did: the export is cut or mixed");
        return Err(bad(lines.number, why));
    }
    engine.fill(last.clone())?;
    publish(new, &file)?;
    engine.close()?;
    Ok(done)
}

/// Longest line of an import: the largest row, in base64.
const LINE_MAX: u64 = 24 << 20;

struct Lines<'i> {
    input: &'i mut dyn BufRead,
    number: u64,
    text: Vec<u8>,
}

impl<'i> Lines<'i> {
    fn new(input: &'i mut dyn BufRead) -> Self {
        Self {
            input,
            number: 0,
            text: Vec::new(),
        }
    }

    fn next<T: for<'d> Deserialize<'d>>(&mut self) -> Result<Option<T>, Error> {
        self.text.clear();
        let mut limited = io::Read::take(&mut *self.input, LINE_MAX);
        let read = limited.read_until(b'\n', &mut self.text);
        if read.map_err(|error| Error::Input(Arc::new(error)))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let parsed = serde_json::from_slice(&self.text);
        parsed.map(Some).map_err(|error| Error::BadImport {
            line: self.number,
            // What serde_json says may repeat a piece of the line.
            why: format!("is not an export's, in column {}", error.column()),
        })
    }
}
