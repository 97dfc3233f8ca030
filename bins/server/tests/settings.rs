//! What the binary says of its settings, and with which exit code.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::process::Output;

use server::{SECRETS, command};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(arguments, environment).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn without_secrets_it_says_which_lines_to_add_and_exits_2() {
    let (code, out, error) = run(&[], &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
    for text in [
        "export FANFARE_TOKEN_SECRET=\"$(openssl rand -hex 32)\"",
        "export FANFARE_API_KEY=\"$(openssl rand -hex 32)\"",
        "--token-secret-file PATH --api-key-file PATH",
        "fanfare-server --dev",
    ] {
        assert!(error.contains(text), "{text}\n{error}");
    }
    let (code, _, error) = run(&[], &SECRETS[..1]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("FANFARE_API_KEY") && !error.contains("FANFARE_TOKEN_SECRET"),
        "{error}"
    );
}

#[test]
fn secrets_that_are_short_given_twice_or_in_the_open_are_refused_and_not_repeated() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "s3cret\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (arguments, environment, message) in [
        (
            vec![],
            vec![SECRETS[0], ("FANFARE_API_KEY", "s3cret")],
            "FANFARE_API_KEY: a secret of 6 bytes is too short",
        ),
        (
            vec![],
            vec![
                SECRETS[0],
                (
                    "FANFARE_API_KEY",
                    "s3cret-of-forty-bytes-0123456789012345-ü",
                ),
            ],
            "FANFARE_API_KEY: a key comes in a header",
        ),
        (
            vec!["--token-secret-file", path],
            vec![SECRETS[1]],
            "FANFARE_TOKEN_SECRET: a secret of 6 bytes is too short",
        ),
        (
            vec!["--api-key-file", path],
            SECRETS.to_vec(),
            "both FANFARE_API_KEY and FANFARE_API_KEY_FILE",
        ),
        (
            vec!["--api-key-file", "/nowhere"],
            vec![SECRETS[0]],
            "the file for FANFARE_API_KEY, /nowhere: No such file",
        ),
        (
            vec!["--api-key", "s3cret"],
            vec![],
            "put it into the environment as FANFARE_API_KEY",
        ),
        (
            vec!["--token-secret=s3cret"],
            vec![],
            "put it into the environment as FANFARE_TOKEN_SECRET",
        ),
    ] {
        let (code, _, error) = run(&arguments, &environment);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(message), "{message}\n{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn settings_that_are_wrong_are_named_and_exit_2() {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nheartbeet = \"25s\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    #[rustfmt::skip]
    let rows = [
        (vec!["--config", path], vec![], format!("fanfare-server: unknown setting `heartbeet` in {path} line 2; did you mean `heartbeat`?")),
        (vec![], vec![("FANFARE_HEARTBEET", "25s")], "unknown setting `FANFARE_HEARTBEET` in the environment; did you mean `FANFARE_HEARTBEAT`?".to_owned()),
        (vec!["--heartbeet", "25s"], vec![], "--heartbeat".to_owned()),
        (vec!["--heartbeat", "25"], vec![], "`--heartbeat` on the command line is `25`: expected a time with its unit".to_owned()),
        (vec!["--allowed-origins", "example.com"], vec![], "`example.com` is no origin".to_owned()),
        (vec!["--listen", "8080"], vec![], "expected ADDRESS:PORT".to_owned()),
        (vec!["--head-bytes", "1KiB"], vec![], "head-bytes is below 8KiB".to_owned()),
        (vec!["--dev", "--listen", "0.0.0.0:0"], vec![], "--dev hands out tokens to whoever asks".to_owned()),
        (vec!["--zebra", "x"], vec![], "unexpected argument '--zebra'".to_owned()),
        (vec!["--memory", "--data", "x"], vec![], "--memory keeps nothing, and --data on the command line says where to keep it".to_owned()),
    ];
    for (arguments, environment, message) in rows {
        let (code, _, error) = run(&arguments, &[environment, SECRETS.to_vec()].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(&message), "{message}\n{error}");
    }
}

#[test]
fn an_address_that_is_taken_is_said_and_exits_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, error) = run(&["--listen", &address], &SECRETS);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(&address) && error.contains("--listen"),
        "{error}"
    );
}

#[test]
fn help_and_version_are_answered_with_0() {
    let (code, help, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for text in [
        "Server:",
        "What is kept:",
        "Who may:",
        "Limits:",
        "--drain-timeout",
        "[default: 10s]",
        "Exit codes:",
        "FANFARE_API_KEY",
    ] {
        assert!(help.contains(text), "{text}\n{help}");
    }
    let (code, version, _) = run(&["--version"], &[]);
    assert_eq!(
        (code, version.trim_end()),
        (
            Some(0),
            concat!("fanfare-server ", env!("CARGO_PKG_VERSION"))
        )
    );
}
