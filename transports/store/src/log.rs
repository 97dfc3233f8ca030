//! The log: what was committed and is not in the tables yet, in two halves that are written in turns.
//!
//! A commit is one write at the end of the half in use, in place: the log has its full length from the start, so that a
//! commit changes nothing of the file but those bytes, and needs no space. While one half is written, the other's changes go
//! to the tables; then it is free.
//!
//! A record is a whole number of sectors of 512 bytes, which a disk writes whole or not at all. Each sector bears the
//! record's number, its own place in the record, and a CRC-32, also where no record was yet. So an unfinished write (some of
//! its sectors are still what was there before) can be told from damage (a sector that nobody wrote, zeros among them).

use std::io;

use fanfare_core::sim_reached;

use crate::batch::{Batch, Change, KEY_MAX, VALUE_MAX};
use crate::disk::Device;
use crate::layout::Layout;
use crate::overlay::Overlay;
use crate::range::KeyRange;
use crate::table::Table;
use crate::view::Problem;

pub(crate) const SECTOR: usize = 512;
/// What of a sector is the record's: the rest is number, place and checksum.
const BODY: usize = SECTOR - 16;
/// Length and checksum, before a record's changes.
const HEAD: usize = 8;

/// Which commit, counted from the file's first. Zero is none.
pub(crate) type Number = u64;

/// Where the next record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    half: u64,
    /// From the half's begin.
    at: u64,
}

impl Place {
    pub(crate) const FIRST: Self = Self { half: 0, at: 0 };

    /// The begin of the other half.
    pub(crate) const fn other(self) -> Self {
        Self {
            half: 1 - self.half,
            at: 0,
        }
    }

    /// Behind so many bytes, if they fit in this half.
    pub(crate) fn behind(self, bytes: usize, layout: Layout) -> Option<Self> {
        let at = self.at + bytes as u64;
        (at <= layout.half()).then_some(Self { at, ..self })
    }

    pub(crate) fn offset(self, layout: Layout) -> u64 {
        layout.half_at(self.half) + self.at
    }
}

/// A sector that no record was written to.
pub(crate) fn blank() -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    stamp(&mut sector, 0, 0);
    sector
}

/// Behind a sector's body: number, place and checksum.
fn stamp(sector: &mut [u8; SECTOR], number: Number, index: u32) {
    let (written, checksum) = sector.split_at_mut(SECTOR - 4);
    let (_, stamp) = written.split_at_mut(BODY);
    let (numbered, placed) = stamp.split_at_mut(8);
    numbered.copy_from_slice(&number.to_le_bytes());
    placed.copy_from_slice(&index.to_le_bytes());
    checksum.copy_from_slice(&crc32fast::hash(written).to_le_bytes());
}

/// The sectors of a record.
pub(crate) fn record<'b>(number: Number, batches: impl Iterator<Item = &'b Batch>) -> Vec<u8> {
    let mut content = vec![0; HEAD];
    for change in batches.flat_map(Batch::changes) {
        write(&mut content, change);
    }
    let (head, changes) = content.split_at_mut(HEAD);
    let (len, checksum) = head.split_at_mut(4);
    // A batch is far below 4 GiB: the queue's bound, and that of a half.
    len.copy_from_slice(
        &u32::try_from(changes.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    checksum.copy_from_slice(&crc32fast::hash(changes).to_le_bytes());

    let mut sectors = Vec::with_capacity(content.len().div_ceil(BODY) * SECTOR);
    for (index, body) in (0_u32..).zip(content.chunks(BODY)) {
        let mut sector = [0; SECTOR];
        sector.split_at_mut(body.len()).0.copy_from_slice(body);
        stamp(&mut sector, number, index);
        sectors.extend_from_slice(&sector);
    }
    sectors
}

/// What a log holds that the tables don't.
pub(crate) struct Found {
    pub(crate) changes: Overlay,
    /// The last commit, in the log or in the tables.
    pub(crate) last: Number,
}

/// Whether each record of the log is as it was written, and no sector is damaged.
pub(crate) fn verify(device: &Device) -> Result<(), Problem> {
    [0, 1]
        .into_iter()
        .try_for_each(|number| scan(&half(device, number)?).map(drop))
}

/// Reads the log of a store whose tables have everything up to `applied`.
pub(crate) fn recover(device: &Device, applied: Number) -> Result<Found, Problem> {
    let mut records = Vec::new();
    let mut newest = applied;
    for number in [0, 1] {
        let bytes = half(device, number)?;
        records.extend(scan(&bytes)?);
        newest = newest.max(newest_in(&bytes));
    }
    records.retain(|(number, _)| *number > applied);
    records.sort_by_key(|(number, _)| *number);
    if fanfare_core::planted!(RecoveryStopsEarly) {
        records.pop();
    }
    let mut found = Found {
        changes: Overlay::default(),
        last: applied,
    };
    for (number, content) in records {
        if number != found.last + 1 {
            let what = format!("its log has no commit {}", found.last + 1);
            return Err(Problem::Damaged(what));
        }
        sim_reached!("recovered_from_the_log");
        found.changes.add(changes(&content)?);
        found.last = number;
    }
    // A record is begun when the one before it is on disk: only the one behind the last can be unfinished.
    if newest > found.last + 1 {
        let what = format!("its log has no commit {}", found.last + 1);
        return Err(Problem::Damaged(what));
    }
    Ok(found)
}

/// Writes the log as it is read, and returns when it is on disk: what the process before wrote may be with the system only, or
/// nowhere else after an fsync that failed.
pub(crate) fn make_safe(device: &Device) -> io::Result<()> {
    for number in [0, 1] {
        let mut bytes = vec![0; usize::try_from(device.layout().half()).unwrap_or(usize::MAX)];
        let at = device.layout().half_at(number);
        device.read_log(at, &mut bytes)?;
        device.write_log(at, &bytes)?;
    }
    device.sync_log()
}

/// The bytes of one of the two halves.
fn half(device: &Device, number: u64) -> Result<Vec<u8>, Problem> {
    let layout = device.layout();
    let mut bytes = vec![0; usize::try_from(layout.half()).unwrap_or(usize::MAX)];
    let read = device.read_log(layout.half_at(number), &mut bytes);
    read.map_err(|error| Problem::Redb(redb::StorageError::Io(error)))?;
    Ok(bytes)
}

/// The highest number that a sector of a half bears, whatever is before it.
fn newest_in(half: &[u8]) -> Number {
    let sectors = half.chunks_exact(SECTOR);
    let numbers = sectors.filter_map(|sector| match next(&mut sector.chunks_exact(SECTOR)) {
        Ok(Some(sector)) => Some(sector.number),
        Ok(None) | Err(_) => None,
    });
    numbers.max().unwrap_or(0)
}

/// The whole records of a half, one after the other, up to the first place where none was written or finished.
fn scan(half: &[u8]) -> Result<Vec<(Number, Vec<u8>)>, Problem> {
    let mut records: Vec<(Number, Vec<u8>)> = Vec::new();
    let mut sectors = half.chunks_exact(SECTOR);
    while let Some(Sector {
        number,
        index: 0,
        body,
    }) = next(&mut sectors)?
    {
        if records
            .last()
            .is_some_and(|(before, _)| number != before + 1)
        {
            break;
        }
        let Some((head, _)) = body.split_first_chunk::<HEAD>() else {
            break;
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        let count = (HEAD + len).div_ceil(BODY);
        let mut content = body.to_vec();
        for place in 1..count {
            match next(&mut sectors)? {
                Some(sector) if sector.number == number && sector.index as usize == place => {
                    content.extend_from_slice(sector.body);
                }
                // The power went before all of it was written.
                _ => {
                    sim_reached!("unfinished_record");
                    return Ok(records);
                }
            }
        }
        content.truncate(HEAD + len);
        content.drain(..HEAD);
        // Two unfinished writes of one number, mixed.
        if crc32fast::hash(&content) != checksum {
            break;
        }
        records.push((number, content));
    }
    Ok(records)
}

struct Sector<'s> {
    number: Number,
    index: u32,
    body: &'s [u8],
}

/// The next sector, if a record was ever written to it.
fn next<'s>(sectors: &mut std::slice::ChunksExact<'s, u8>) -> Result<Option<Sector<'s>>, Problem> {
    let Some(sector) = sectors.next() else {
        return Ok(None);
    };
    let Some((written, checksum)) = sector.split_last_chunk::<4>() else {
        return Ok(None);
    };
    if crc32fast::hash(written).to_le_bytes() != *checksum {
        let what = "a sector of its log is not what was written".to_owned();
        return Err(Problem::Damaged(what));
    }
    let stamped = written.split_last_chunk::<12>();
    let sector = stamped.map(|(body, stamp)| {
        let [n0, n1, n2, n3, n4, n5, n6, n7, i0, i1, i2, i3] = *stamp;
        Sector {
            number: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            index: u32::from_le_bytes([i0, i1, i2, i3]),
            body,
        }
    });
    Ok(sector.filter(|sector| sector.number != 0))
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
const CLEAR: u8 = 2;

fn write(out: &mut Vec<u8>, change: &Change) {
    let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
        // Keys and values were checked against their bounds.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    let (kind, table) = match change {
        Change::Put(table, ..) => (PUT, table),
        Change::Delete(table, _) => (DELETE, table),
        Change::DeleteRange(table, _) => (CLEAR, table),
    };
    out.extend_from_slice(&[kind, *table as u8]);
    match change {
        Change::Put(_, key, value) => {
            bytes(out, key);
            bytes(out, value);
        }
        Change::Delete(_, key) => bytes(out, key),
        Change::DeleteRange(_, range) => {
            let (from, to) = range.half_open();
            bytes(out, &from);
            out.push(u8::from(to.is_some()));
            bytes(out, &to.unwrap_or_default());
        }
    }
}

/// What [`write`] wrote, change by change.
fn changes(content: &[u8]) -> Result<Batch, Problem> {
    let mut reader = Reader(content);
    let mut batch = Batch::new();
    while !reader.0.is_empty() {
        let change = reader.change(&mut batch);
        change.ok_or_else(|| Problem::Damaged("a change in its log can't be read".to_owned()))?;
    }
    Ok(batch)
}

struct Reader<'c>(&'c [u8]);

impl<'c> Reader<'c> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, most: usize) -> Option<&'c [u8]> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let (bytes, rest) = rest.split_at_checked(len).filter(|_| len <= most)?;
        self.0 = rest;
        Some(bytes)
    }

    fn change(&mut self, batch: &mut Batch) -> Option<()> {
        let kind = self.byte()?;
        let table = *Table::ALL.get(usize::from(self.byte()?))?;
        // A range's key may be longer by one: the first behind a key.
        let key = self.bytes(KEY_MAX + 1)?;
        match kind {
            PUT => batch.put(table, key, self.bytes(VALUE_MAX)?.to_vec()),
            DELETE => batch.delete(table, key),
            CLEAR => {
                let ends = self.byte()? == 1;
                let to = self.bytes(KEY_MAX + 1)?;
                let range = if ends {
                    KeyRange::new(key..to)
                } else {
                    KeyRange::new(key..)
                };
                batch.delete_range(table, range)
            }
            _ => return None,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(byte: u8, len: usize) -> Batch {
        let mut batch = Batch::new();
        batch
            .put(Table::Rooms, [byte], vec![byte; len])
            .delete(Table::Ids, [byte])
            .delete_range(Table::Tasks, KeyRange::prefix(&[byte]))
            .delete_range(Table::Meta, KeyRange::all());
        batch
    }

    fn half(records: &[Vec<u8>]) -> Vec<u8> {
        let mut half = records.concat();
        (0..4).for_each(|_| half.extend_from_slice(&blank()));
        half
    }

    fn numbers(half: &[u8]) -> Option<Vec<Number>> {
        let records = scan(half).ok()?;
        Some(records.into_iter().map(|(number, _)| number).collect())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for len in [0, 1, 400, 496, 497, 10_000] {
            let batch = batch(7, len);
            let records = scan(&half(&[record(3, std::iter::once(&batch))]))
                .ok()
                .unwrap();
            let [(3, content)] = records.as_slice() else {
                panic!("{} records of {len} bytes", records.len());
            };
            let read = changes(content).ok().unwrap();
            assert_eq!(
                format!("{:?}", read.changes().first()),
                format!("{:?}", batch.changes().first())
            );
            assert_eq!(read.len(), 4, "{len}");
        }
    }

    #[test]
    fn the_longest_keys_are_read_as_they_were_written() {
        let longest = [b'k'; KEY_MAX];
        let mut batch = Batch::new();
        batch
            .put(Table::Rooms, longest, *b"value")
            .delete(Table::Ids, longest)
            // To the first key behind it, which is longer by one.
            .delete_range(Table::Tasks, KeyRange::key(&longest));
        batch.check(usize::MAX).unwrap();
        let records = scan(&half(&[record(1, std::iter::once(&batch))]))
            .ok()
            .unwrap();
        let read = changes(&records[0].1).ok().unwrap();
        assert_eq!(read.len(), 3);
        let Some(Change::DeleteRange(_, range)) = read.changes().last() else {
            panic!("not a range: {read:?}");
        };
        assert!(range.contains(&longest) && !range.contains(&[b'k'; KEY_MAX + 1]));
    }

    /// Each sector of the last record is new, or still that of an older record, or blank.
    #[test]
    fn an_unfinished_record_ends_the_log_and_damage_is_an_error() {
        let old: Vec<u8> = [
            record(1, [&batch(1, 3_000)].into_iter()),
            record(2, [&batch(2, 3_000)].into_iter()),
        ]
        .concat();
        let whole = half(&[
            record(8, [&batch(8, 600)].into_iter()),
            record(9, [&batch(9, 1_500)].into_iter()),
        ]);
        assert_eq!(numbers(&whole), Some(vec![8, 9]));
        let last = 2..whole.len() / SECTOR - 4;
        let never = blank().repeat(whole.len() / SECTOR);
        for before in [never.clone(), [old, never].concat()] {
            for lost in last.clone() {
                let mut torn = whole.clone();
                let sector = lost * SECTOR..(lost + 1) * SECTOR;
                torn[sector.clone()].copy_from_slice(&before[sector]);
                assert_eq!(numbers(&torn), Some(vec![8]), "without sector {lost}");
            }
        }
        for at in 0..last.end * SECTOR {
            let mut damaged = whole.clone();
            damaged[at] ^= 16;
            assert_eq!(numbers(&damaged), None, "byte {at}");
        }
        for sector in (0..=last.end * SECTOR).step_by(SECTOR) {
            let mut zeroed = whole.clone();
            zeroed[sector..sector + SECTOR].fill(0);
            assert_eq!(numbers(&zeroed), None, "zeros at {sector}");
        }
    }

    #[test]
    fn two_unfinished_writes_of_one_number_are_no_record() {
        let (one, other) = (
            record(5, [&batch(1, 900)].into_iter()),
            record(5, [&batch(2, 900)].into_iter()),
        );
        assert_eq!(one.len(), other.len());
        let mixed = [&one[..SECTOR], &other[SECTOR..]].concat();
        assert_eq!(numbers(&half(&[mixed])), Some(vec![]));
    }
}
