//! What a range of seeds came to: the marks in the server's code, the faults, and the kinds of steps. A green run that came to
//! none of it proved nothing.

use std::collections::BTreeSet;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::plan::Step;
use crate::tally::{Counts, Tally};

mod known {
    include!(concat!(env!("OUT_DIR"), "/known.rs"));
}

/// Whether this build counts marks.
pub(crate) const COUNTS: bool = cfg!(feature = "marks");

/// The marks that this thread's world has reached since the last call.
pub(crate) fn take() -> BTreeSet<&'static str> {
    #[cfg(feature = "marks")]
    return fanfare_core::marks::take();
    #[cfg(not(feature = "marks"))]
    BTreeSet::new()
}

/// A line for each mark, with the number of seeds that reached it, and what no seed came to.
pub(crate) struct Coverage {
    pub(crate) lines: String,
    pub(crate) missing: Vec<String>,
}

pub(crate) fn report(marks: &Counts, tally: &Tally) -> Coverage {
    let mut missing = Vec::new();
    let mut lines = Vec::new();
    let known = known::MARKS.iter();
    let width = known.clone().map(|(mark, _)| mark.len()).max();
    let width = width.unwrap_or_default();
    for (mark, place) in known {
        let count = marks.get(mark);
        lines.push(format!("  {mark:width$} {count:>9}  {place}"));
        if count == 0 {
            missing.push(format!("mark {mark}, {place}"));
        }
    }
    for (fault, place) in known::FAULTS {
        if tally.faults.get(fault) == 0 {
            missing.push(format!("fault {fault}, {place}"));
        }
    }
    for step in variants::<Step>() {
        if tally.steps.get(step) == 0 {
            missing.push(format!("step {step}"));
        }
    }
    Coverage {
        lines: lines.join("\n"),
        missing,
    }
}

/// The names of all faults.
#[cfg(test)]
pub(crate) fn faults() -> impl Iterator<Item = &'static str> {
    known::FAULTS.iter().map(|(fault, _)| *fault)
}

/// The names that an enum has in JSON.
fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Names<'n>(&'n mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("no enum"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = variants;
            Err(de::Error::custom("only its names are wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // It fails always; the names are what comes of it.
    let _ = T::deserialize(Names(&mut names));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_faults_and_steps_are_found_where_they_stand() {
        let marks: Vec<&str> = known::MARKS.iter().map(|(mark, _)| *mark).collect();
        assert!(marks.len() >= 40, "{marks:?}");
        for mark in ["falls_behind", "write_blocked", "log_turns"] {
            assert!(marks.contains(&mark), "{mark}");
        }
        assert!(
            known::FAULTS
                .iter()
                .any(|(fault, _)| *fault == "black_hole")
        );
        assert!(variants::<Step>().contains(&"stop_reading"));
    }

    #[test]
    fn what_no_seed_came_to_is_named_with_its_place() {
        let (mut marks, mut tally) = (Counts::default(), Tally::default());
        let missing = |marks: &Counts, tally: &Tally| report(marks, tally).missing;
        let all = missing(&marks, &tally);
        assert!(
            all.iter()
                .any(|it| it.starts_with("mark falls_behind, core/src/outlet/deliver.rs:"))
        );
        assert!(
            all.iter()
                .any(|it| it.starts_with("fault reset, src/fault.rs:"))
        );
        assert!(all.contains(&"step crash".to_owned()));
        marks.add("falls_behind", 3);
        tally.faults.add("reset", 1);
        tally.steps.add("crash", 1);
        assert_eq!(missing(&marks, &tally).len(), all.len() - 3);
    }
}
