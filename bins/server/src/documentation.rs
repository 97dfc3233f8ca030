//! Keeps `docs/configuration.md` true: its tables are those of the settings.

use std::fmt::Write as _;
use std::fs;

use crate::settings::{self, Group, SETTINGS, Setting};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
const BEGIN: &str = "<!-- settings: written by a test, see bins/server/src/documentation.rs -->\n";
const END: &str = "<!-- /settings -->";

fn row(setting: &Setting) -> String {
    let flag = setting
        .placeholder()
        .map_or_else(String::new, |placeholder| format!(" {placeholder}"));
    let key = match setting.name {
        settings::CONFIG => "-".to_owned(),
        name => format!("`{}`", settings::key(name)),
    };
    let default = setting
        .default_text()
        .map_or_else(|| "-".to_owned(), |text| format!("`{text}`"));
    let (name, help) = (setting.name, setting.help);
    format!(
        "| `--{name}{flag}` | `{}` | {key} | {default} | {help} |\n",
        settings::variable(name)
    )
}

fn tables() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        write!(text, "\n### {}\n\n", group.heading()).unwrap();
        text += "| flag | environment | TOML key | default | what it sets |\n| --- | --- | --- | --- | --- |\n";
        text.extend(
            SETTINGS
                .iter()
                .filter(|setting| setting.group == group)
                .map(row),
        );
    }
    text + "\n"
}

#[test]
fn docs_configuration_md_lists_every_setting_as_it_is() {
    let before = fs::read_to_string(FILE).unwrap();
    let (head, rest) = before.split_once(BEGIN).unwrap();
    let (written, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("FANFARE_TEST_BLESS").is_some() {
        fs::write(FILE, format!("{head}{BEGIN}{}{END}{tail}", tables())).unwrap();
    } else {
        assert_eq!(
            written,
            tables(),
            "FANFARE_TEST_BLESS=1 cargo test -p fanfare-server brings it up to date"
        );
    }
}

#[test]
fn the_toml_file_that_docs_configuration_md_shows_is_taken() {
    let text = fs::read_to_string(FILE).unwrap();
    let example = text
        .split_once("```toml\n")
        .unwrap()
        .1
        .split_once("```")
        .unwrap()
        .0;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, example).unwrap();
    let arguments = [
        "fanfare-server".into(),
        "--config".into(),
        file.path().into(),
    ];
    let read = crate::sources::read(arguments, []);
    assert!(read.is_ok_and(|sources| sources.config.token_issuer.is_some()));
}
