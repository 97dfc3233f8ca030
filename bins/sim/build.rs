//! Lists the marks in the server's code and the faults that worlds count, so that a run can say which it never came to.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where marks are.
const MARKED: [&str; 3] = [
    "../../core/src",
    "../../transports/websocket/src",
    "../../transports/store/src",
];

fn main() -> io::Result<()> {
    let (mut marks, mut faults) = (Vec::new(), Vec::new());
    for folder in MARKED {
        println!("cargo::rerun-if-changed={folder}");
        collect(Path::new(folder), "sim_reached!(\"", &mut marks)?;
    }
    println!("cargo::rerun-if-changed=src");
    collect(Path::new("src"), "count_fault(\"", &mut faults)?;
    // All that it says is names.
    read(Path::new("src/fault.rs"), "\"", &mut faults)?;
    let mut text = String::new();
    for (name, found) in [("MARKS", &mut marks), ("FAULTS", &mut faults)] {
        found.sort();
        let all = found.len();
        found.dedup_by(|one, other| one.0 == other.0);
        if name == "MARKS" && found.len() < all {
            return Err(io::Error::other("two marks have one name"));
        }
        let _ = writeln!(
            text,
            "pub(crate) const {name}: &[(&str, &str)] = &{found:?};"
        );
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(PathBuf::from(out).join("known.rs"), text)
}

/// What stands in quotes behind `begin` in the files of a folder, with its place.
fn collect(folder: &Path, begin: &str, found: &mut Vec<(String, String)>) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.is_dir() {
            collect(&path, begin, found)?;
        } else {
            read(&path, begin, found)?;
        }
    }
    Ok(())
}

fn read(path: &Path, begin: &str, found: &mut Vec<(String, String)>) -> io::Result<()> {
    for (number, line) in fs::read_to_string(path)?.lines().enumerate() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(begin) {
            let (name, behind) = after.split_once('"').unwrap_or((after, ""));
            let file = path.display().to_string();
            let file = file.trim_start_matches("../");
            found.push((name.to_owned(), format!("{file}:{}", number + 1)));
            rest = behind;
        }
    }
    Ok(())
}
