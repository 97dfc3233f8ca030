//! Where settings come from: flags over the environment over a TOML file, all read by the one table of `settings`.
//!
//! What no row of the table knows is an error that names it, where it stands, and the nearest known name: a setting
//! that was misspelt and silently ignored is found out months later.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches as _};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::secrets::{self, Secret};
use crate::settings::{self, Config, SETTINGS, Setting};
use crate::store;

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Variables of the clients and of the tests, which may stand in the environment that starts a server.
const FOREIGN_VARIABLES: [&str; 4] = ["URL", "TOKEN", "TASK", "USER"];

/// Exit codes, for `--help`.
const AFTER_HELP: &str = "\
Every setting is also an environment variable, and a key of the TOML file: --drain-timeout is
FANFARE_DRAIN_TIMEOUT and drain_timeout. A flag goes over the environment, the environment over the file.

Secrets come from the environment, or from files that a setting names:
  FANFARE_TOKEN_SECRET  signs the tokens that clients bear (HS256), at least 32 bytes
  FANFARE_API_KEY       what back ends bear, at least 32 bytes

Exit codes:
  0    drained and ended on SIGINT or SIGTERM
  1    could not serve (address in use, not permitted, ...)
  2    wrong or missing settings
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Flag,
    Environment,
    File { path: PathBuf, line: usize },
}

impl Place {
    /// The setting's name as it is spelt there.
    fn spell(&self, name: &str) -> String {
        match self {
            Self::Flag => format!("--{name}"),
            Self::Environment => settings::variable(name),
            Self::File { .. } => settings::key(name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("on the command line"),
            Self::Environment => f.write_str("in the environment"),
            Self::File { path, line } => write!(f, "in {} line {line}", path.display()),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("unknown setting `{name}` {place}{}", hint(.near.as_deref()))]
    Unknown {
        name: String,
        place: Place,
        near: Option<String>,
    },
    #[error("`{name}` {place} is `{value}`: {reason}")]
    Invalid {
        name: String,
        place: Place,
        value: String,
        reason: String,
    },
    #[error("`{name}` {place}: {reason}")]
    Form {
        name: String,
        place: Place,
        reason: String,
    },
    #[error(
        "`{name}` {place}: a secret does not belong there, where others can read it; \
         put it into the environment as {variable}, or into a file that {variable}_FILE names"
    )]
    SecretInTheOpen {
        name: String,
        place: Place,
        variable: &'static str,
    },
    #[error("{}: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    #[error("{0}")]
    Combination(String),
    #[error(transparent)]
    Secret(#[from] secrets::SecretError),
}

fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum Stop {
    /// `--help`, `--version`, or arguments that are none.
    Arguments(clap::Error),
    Wrong(Vec<ConfigError>),
    /// Not to serve was asked for.
    Store(store::Maintenance),
}

/// A value as it was given, not yet understood.
struct Given {
    text: String,
    place: Place,
}

/// What was read: the settings, and the variables that hold secrets.
pub(crate) struct Sources {
    pub(crate) config: Config,
    pub(crate) secrets: BTreeMap<&'static str, String>,
}

/// Reads all sources.
///
/// # Errors
/// [`Stop`] with everything that is wrong, not only the first.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Sources, Stop> {
    let mut matches = command()
        .try_get_matches_from(arguments)
        .map_err(Stop::Arguments)?;
    if let Some((_, matches)) = matches.subcommand() {
        let maintenance = store::Maintenance::from_arg_matches(matches);
        return Err(maintenance.map_or_else(Stop::Arguments, Stop::Store));
    }
    let mut errors = Vec::new();
    let (mut given, secrets) = from_environment(environment, &mut errors);
    for (name, value) in from_flags(&mut matches, &mut errors) {
        given.insert(name, value);
    }
    if let Some(file) = given.remove(settings::CONFIG) {
        for (name, value) in from_file(Path::new(&file.text), &mut errors) {
            given.entry(name).or_insert(value);
        }
    }
    let data = given.get(settings::DATA);
    let data = data.map(|data| format!("{} {}", data.place.spell(settings::DATA), data.place));
    let mut config = Config::default();
    for (name, value) in given {
        let Some(setting) = settings::find(name) else {
            continue;
        };
        if let Err(reason) = setting.set(&mut config, &value.text) {
            let (name, place) = (value.place.spell(name), value.place);
            errors.push(ConfigError::Invalid {
                name,
                place,
                value: value.text,
                reason,
            });
        }
    }
    errors.extend(
        config
            .contradictions(data.as_deref())
            .into_iter()
            .map(ConfigError::Combination),
    );
    if errors.is_empty() {
        Ok(Sources { config, secrets })
    } else {
        Err(Stop::Wrong(errors))
    }
}

/// The command line, from the table of settings.
pub(crate) fn command() -> Command {
    let command = Command::new("fanfare-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Broadcasts events to the right clients, in real time: WebSockets for people, HTTP for back ends.")
        .after_help(StyledStr::from(AFTER_HELP))
        .max_term_width(110)
        .subcommand(store::command())
        .args_conflicts_with_subcommands(true);
    let command = SETTINGS
        .iter()
        .fold(command, |command, setting| command.arg(argument(setting)));
    // Known only to be refused with advice.
    secrets::ALL.iter().fold(command, |command, secret| {
        command.arg(
            Arg::new(secret.name)
                .long(secret.name)
                .hide(true)
                .num_args(0..=1)
                .action(ArgAction::Set),
        )
    })
}

fn argument(setting: &'static Setting) -> Arg {
    let default = setting
        .default_text()
        .map_or_else(String::new, |text| format!(" [default: {text}]"));
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .help(format!("{}{default}", setting.help))
        .help_heading(setting.group.heading());
    match setting.placeholder() {
        Some(placeholder) => arg.value_name(placeholder).action(ArgAction::Set),
        None => arg.action(ArgAction::SetTrue),
    }
}

fn from_flags(
    matches: &mut ArgMatches,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<&'static str, Given> {
    for secret in &secrets::ALL {
        if matches.contains_id(secret.name) {
            errors.push(in_the_open(secret, Place::Flag));
        }
    }
    let mut given = BTreeMap::new();
    for setting in SETTINGS {
        let text = match setting.placeholder() {
            Some(_) => matches.remove_one::<String>(setting.name),
            None => matches.get_flag(setting.name).then(|| "true".to_owned()),
        };
        if let Some(text) = text {
            given.insert(
                setting.name,
                Given {
                    text,
                    place: Place::Flag,
                },
            );
        }
    }
    given
}

fn in_the_open(secret: &Secret, place: Place) -> ConfigError {
    ConfigError::SecretInTheOpen {
        name: place.spell(secret.name),
        place,
        variable: secret.variable,
    }
}

type FromEnvironment = (
    BTreeMap<&'static str, Given>,
    BTreeMap<&'static str, String>,
);

fn from_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    errors: &mut Vec<ConfigError>,
) -> FromEnvironment {
    let (mut given, mut found) = (BTreeMap::new(), BTreeMap::new());
    // An empty variable is an unset one: that is how it is switched off in a compose file.
    let ours = environment.into_iter().filter_map(|(name, value)| {
        let name = name
            .into_string()
            .ok()
            .filter(|name| name.starts_with(settings::PREFIX))?;
        (!value.is_empty()).then_some((name, value))
    });
    for (variable, value) in ours {
        let setting = SETTINGS
            .iter()
            .find(|setting| settings::variable(setting.name) == variable);
        let secret = secrets::ALL
            .iter()
            .find(|secret| secret.variable == variable);
        let place = Place::Environment;
        let Ok(text) = value.into_string() else {
            // The value of an unknown one is nobody's business, so only known ones are looked at.
            if setting.is_some() || secret.is_some() {
                errors.push(ConfigError::Form {
                    name: variable,
                    place,
                    reason: "not UTF-8".to_owned(),
                });
            }
            continue;
        };
        if let Some(setting) = setting {
            given.insert(setting.name, Given { text, place });
        } else if let Some(secret) = secret {
            found.insert(secret.variable, text);
        } else if !is_foreign(&variable, &text) {
            let near = nearest(&variable, known().map(settings::variable));
            errors.push(ConfigError::Unknown {
                name: variable,
                place,
                near,
            });
        }
    }
    (given, found)
}

/// Whether a variable with our prefix is somebody else's: the clients', the tests', or one of those that Kubernetes
/// gives every pod beside a service named `fanfare…`.
fn is_foreign(variable: &str, value: &str) -> bool {
    let name = variable.strip_prefix(settings::PREFIX).unwrap_or(variable);
    let kubernetes = name.ends_with("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || (name.ends_with("PORT") && value.contains("://"))
        || name
            .split_once("PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    FOREIGN_VARIABLES.contains(&name) || name.starts_with("TEST_") || kubernetes
}

fn from_file(path: &Path, errors: &mut Vec<ConfigError>) -> BTreeMap<&'static str, Given> {
    let wrong = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let text = match secrets::read_bounded(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(reason) => {
            errors.push(wrong(reason));
            return BTreeMap::new();
        }
    };
    let table = match DeTable::parse(&text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            errors.push(wrong(format!("line {line}: {}", error.message())));
            return BTreeMap::new();
        }
    };
    // By line, as a person reads it, not by name.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let mut given = BTreeMap::new();
    for (name, value) in entries {
        let line = line_of(&text, name.span().start);
        let path = path.to_owned();
        let place = Place::File { path, line };
        match from_entry(name.get_ref(), value, place) {
            Ok((name, value)) => drop(given.insert(name, value)),
            Err(error) => errors.push(error),
        }
    }
    given
}

fn from_entry(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    place: Place,
) -> Result<(&'static str, Given), ConfigError> {
    let setting = SETTINGS
        .iter()
        .find(|setting| settings::key(setting.name) == name && setting.name != settings::CONFIG);
    let Some(setting) = setting else {
        let known = known().filter(|name| *name != settings::CONFIG);
        let near = nearest(name, known.map(settings::key));
        let secret = secrets::ALL
            .iter()
            .find(|secret| near.as_deref() == Some(&settings::key(secret.name)));
        return Err(match secret {
            Some(secret) => ConfigError::SecretInTheOpen {
                name: name.to_owned(),
                place,
                variable: secret.variable,
            },
            None => ConfigError::Unknown {
                name: name.to_owned(),
                place,
                near,
            },
        });
    };
    match text_of(value.get_ref()) {
        Some(text) => Ok((setting.name, Given { text, place })),
        None => {
            let reason = format!(
                "expected a string, a number, true, false or a list of strings, not a {}",
                value.get_ref().type_str()
            );
            Err(ConfigError::Form {
                name: name.to_owned(),
                place,
                reason,
            })
        }
    }
}

/// A TOML value as it would be written in a flag.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// All names that stand for something, in the table's spelling.
fn known() -> impl Iterator<Item = &'static str> {
    SETTINGS
        .iter()
        .map(|setting| setting.name)
        .chain(secrets::ALL.iter().map(|secret| secret.name))
}

/// The known name that is most like this one, where one is like it at all.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(name, &candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(
        arguments: &[&str],
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<Config, String> {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut path, file.as_bytes()).unwrap();
        let config = [("FANFARE_CONFIG", path.path().to_str().unwrap())];
        let environment = environment
            .iter()
            .chain(&config)
            .map(|(name, value)| (name.into(), value.into()));
        let arguments = ["fanfare-server"]
            .iter()
            .chain(arguments)
            .map(OsString::from);
        match read(arguments, environment) {
            Ok(sources) => Ok(sources.config),
            Err(Stop::Arguments(error)) => Err(error.to_string()),
            Err(Stop::Store(maintenance)) => Err(format!("{maintenance:?}")),
            Err(Stop::Wrong(errors)) => {
                let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
                Err(lines
                    .join("\n")
                    .replace(path.path().to_str().unwrap(), "fanfare.toml"))
            }
        }
    }

    #[test]
    fn a_flag_goes_over_the_environment_and_that_over_the_file() {
        let (flag, variable) = (["--drain-timeout", "1s"], [("FANFARE_DRAIN_TIMEOUT", "2s")]);
        let file = "drain_timeout = \"3s\"";
        for (arguments, environment, file, milliseconds) in [
            (&flag[..], &variable[..], file, 1_000),
            (&[], &variable, file, 2_000),
            (&[], &[], file, 3_000),
            (&[], &[("FANFARE_DRAIN_TIMEOUT", "")], file, 3_000),
            (&[], &[], "", 10_000),
        ] {
            let config = read_all(arguments, environment, file).unwrap();
            assert_eq!(
                config.drain_timeout_ms, milliseconds,
                "{arguments:?} {environment:?} {file}"
            );
        }
    }

    #[test]
    fn every_setting_can_be_given_in_each_of_the_three_ways() {
        for setting in SETTINGS
            .iter()
            .filter(|setting| setting.name != settings::CONFIG)
        {
            let text = setting
                .default_text()
                .unwrap_or_else(|| match setting.placeholder() {
                    None => "true".to_owned(),
                    Some(_) => "https://x.example".to_owned(),
                });
            let (flag, variable) = (
                format!("--{}", setting.name),
                settings::variable(setting.name),
            );
            let flag: Vec<&str> = match setting.placeholder() {
                Some(_) => vec![&flag, &text],
                None => vec![&flag],
            };
            read_all(&flag, &[], "").unwrap_or_else(|error| panic!("{}: {error}", setting.name));
            read_all(&[], &[(&variable, &text)], "")
                .unwrap_or_else(|error| panic!("{variable}: {error}"));
            let line = format!("{} = \"{text}\"", settings::key(setting.name));
            read_all(&[], &[], &line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_the_nearest_known_name() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            (&[], &[], "\n\nlog_formt = \"text\"", "unknown setting `log_formt` in fanfare.toml line 3; did you mean `log_format`?"),
            (&[], &[], "zebra = 1", "unknown setting `zebra` in fanfare.toml line 1"),
            (&[], &[], "[limits]\nx = 1", "unknown setting `limits` in fanfare.toml line 1"),
            (&[], &[], "config = \"x\"", "unknown setting `config` in fanfare.toml line 1"),
            (&[], &[], "token_secert = \"x\"", "`token_secert` in fanfare.toml line 1: a secret does not belong there, where others can read it; put it into the environment as FANFARE_TOKEN_SECRET, or into a file that FANFARE_TOKEN_SECRET_FILE names"),
            (&[], &[], "drain_timeout = 10", "`drain_timeout` in fanfare.toml line 1 is `10`: expected a time with its unit, such as 500ms, 10s, 24h or 30days (time unit needed, for example 10sec or 10ms)"),
            (&[], &[], "drain_timeout = 1.5", "`drain_timeout` in fanfare.toml line 1: expected a string, a number, true, false or a list of strings, not a float"),
            (&[], &[], "log = \"info\"\nlog = \"warn\"", "fanfare.toml: line 2: duplicate key"),
            (&[], &[], "= 1", "fanfare.toml: line 1:"),
            (&[], &[("FANFARE_LISTN", "x")], "", "unknown setting `FANFARE_LISTN` in the environment; did you mean `FANFARE_LISTEN`?"),
            (&[], &[("FANFARE_API_KYE", "x")], "", "unknown setting `FANFARE_API_KYE` in the environment; did you mean `FANFARE_API_KEY`?"),
            (&[], &[("FANFARE_LISTEN", "8080")], "", "`FANFARE_LISTEN` in the environment is `8080`: expected ADDRESS:PORT"),
            (&["--drain-timeout", "0s"], &[], "", "`--drain-timeout` on the command line is `0s`: expected at least 1ms"),
            (&["--log-format", "xml"], &[], "", "`--log-format` on the command line is `xml`: expected auto, text or json"),
            (&["--api-key", "s3cret"], &[], "", "`--api-key` on the command line: a secret does not belong there"),
            (&["--drain-timout", "1s"], &[], "", "a similar argument exists: '--drain-timeout'"),
            (&["--durability", "none"], &[], "", "`--durability` on the command line is `none`: expected immediate or relaxed"),
            (&["--memory"], &[("FANFARE_DATA", "/d")], "", "--memory keeps nothing, and FANFARE_DATA in the environment says where to keep it: leave one of them out"),
            (&["--publish-bytes", "9MiB"], &[], "", "publish-bytes is above 8MiB"),
            (&["--config", "/nowhere/f.toml"], &[], "", "/nowhere/f.toml: No such file"),
        ];
        for (arguments, environment, file, message) in rows {
            let error = read_all(arguments, environment, file).unwrap_err();
            assert!(
                error.contains(message),
                "{arguments:?} {environment:?} {file}\n{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let error = read_all(
            &["--drain-timeout", "x"],
            &[("FANFARE_X", "1")],
            "zebra = 1",
        )
        .unwrap_err();
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn variables_of_clients_tests_and_kubernetes_are_left_alone() {
        for (variable, value) in [
            ("FANFARE_URL", "http://localhost:8080"),
            ("FANFARE_TOKEN", "x"),
            ("FANFARE_TEST_REQUIRE", "chromium"),
            ("FANFARE_SERVICE_HOST", "10.0.0.1"),
            ("FANFARE_SERVICE_PORT_HTTP", "80"),
            ("FANFARE_PORT", "tcp://10.0.0.1:80"),
            ("FANFARE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("FANFARE_SERVER_SERVICE_PORT", "80"),
        ] {
            assert!(
                read_all(&[], &[(variable, value)], "").is_ok(),
                "{variable}"
            );
        }
        assert!(
            read_all(&[], &[("FANFARE_PORT", "80")], "").is_err(),
            "a port is no setting of its own"
        );
    }
}
