//! `fanfare exec` while the server is there: what is published of a run, and what the run is spared.

use std::io::Read;

use rustix::process::Signal;
use serde_json::json;

use crate::run::{Run, Text, fanfare, run};
use crate::server::{Event, Server, TASK};
use crate::terminal::Terminal;

fn sh(server: &Server, script: &str) -> std::process::Command {
    fanfare(server, &["exec", "--", "sh", "-c", script])
}

/// Many short sleeps: a signal that reaches a shell just before it starts one is seen only after it.
const UNTIL_KILLED: &str = "while :; do sleep 0.02; done";

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

/// The finished lines of all batches, in order.
fn lines(events: &[Event]) -> Vec<&str> {
    events.iter().flat_map(Event::lines).collect()
}

#[test]
fn a_run_is_told_from_its_creation_to_its_end() {
    let server = Server::start();
    let script = "seq 1 50; echo oh >&2; echo last";
    let arguments = [
        "exec", "--task", TASK, "--user", "7,8", "--user", "9", "--", "sh", "-c", script,
    ];
    let done = run(fanfare(&server, &arguments));
    done.assert_code(0);
    let numbers: String = (1..=50).map(|n| format!("{n}\n")).collect();
    assert_eq!(done.out, numbers + "last\n", "what it prints is printed");
    assert!(done.err.contains("oh\n"), "{done:?}");
    assert!(done.err.contains(TASK), "the task is named: {done:?}");

    let events = server.events();
    let (first, rest) = events.split_at(2);
    assert_eq!(kinds(first), ["task:created", "task:started"]);
    let command = format!("sh -c '{script}'");
    assert_eq!(
        first[0].data,
        json!({ "task": TASK, "title": command, "command": command })
    );
    let (last, batches) = rest.split_last().unwrap();
    assert_eq!(last.kind, "task:completed");
    assert_eq!(last.data["exit_code"], 0);
    assert!(last.data["duration_ms"].is_u64());
    for batch in batches {
        assert_eq!(batch.kind, "task:status");
        assert_eq!(batch.data["status"], "running");
    }
    let mut printed = lines(batches);
    printed.retain(|line| *line != "oh");
    assert_eq!(printed, done.out.lines().collect::<Vec<_>>());
    let streams = batches
        .iter()
        .flat_map(|batch| batch.data["lines"].as_array().unwrap());
    for line in streams {
        let stream = if line["text"] == "oh" {
            "stderr"
        } else {
            "stdout"
        };
        assert_eq!(line["stream"], stream);
    }
    for event in &events {
        let task = format!("task:{TASK}");
        assert_eq!(event.rooms, [&task, "user:7", "user:8", "user:9"]);
    }
}

#[test]
fn the_exit_status_is_the_commands_and_the_last_event_says_it() {
    let not_executable = tempfile::NamedTempFile::new().unwrap();
    let not_executable = not_executable.path().to_str().unwrap();
    let cases = [
        ("true", 0, "task:completed", json!({ "exit_code": 0 })),
        ("exit 3", 3, "task:failed", json!({ "exit_code": 3 })),
        ("exit 255", 255, "task:failed", json!({ "exit_code": 255 })),
        (
            "kill -TERM $$",
            143,
            "task:failed",
            json!({ "signal": "SIGTERM" }),
        ),
        (
            "kill -KILL $$",
            137,
            "task:failed",
            json!({ "signal": "SIGKILL" }),
        ),
    ];
    for (script, code, kind, data) in cases {
        let server = Server::start();
        let done = run(sh(&server, script));
        assert_eq!(done.code, Some(code), "{script}: {done:?}");
        let mut last = server.events().pop().unwrap();
        let members = last.data.as_object_mut().unwrap();
        for varies in ["duration_ms", "task"] {
            members.remove(varies).unwrap();
        }
        assert_eq!((last.kind.as_str(), last.data), (kind, data), "{script}");
    }
    let cases = [
        ("no-such-command-anywhere", 127, "command not found"),
        ("./no-such-file", 127, "command not found"),
        (not_executable, 126, "permission denied"),
        ("/", 126, "permission denied"),
    ];
    for (program, code, words) in cases {
        let server = Server::start();
        let done = run(fanfare(&server, &["exec", "--", program]));
        assert_eq!(done.code, Some(code), "{program}: {done:?}");
        assert!(done.err.contains(words), "{program}: {done:?}");
        let events = server.events();
        assert_eq!(
            kinds(&events),
            ["task:created", "task:failed"],
            "{program}: it never started"
        );
        assert_eq!(events[1].data["exit_code"], code, "{program}");
        let error = events[1].data["error"].as_str().unwrap();
        assert!(error.contains(words), "{program}: {error}");
    }
}

#[test]
fn a_script_without_a_first_line_that_names_its_shell_is_run_as_shells_run_it() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "echo \"plain $1\"; exit 4\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let script = script.to_str().unwrap();
    for pty in ["--no-pty", "--pty"] {
        let done = run(fanfare(&server, &["exec", "-q", pty, "--", script, "word"]));
        done.assert_code(4);
        assert_eq!(done.out.trim_end(), "plain word", "{pty}: {done:?}");
    }
}

#[test]
fn a_signal_reaches_the_command_and_the_task_is_cancelled() {
    let cases = [
        (Signal::INT, "INT", 130),
        (Signal::TERM, "TERM", 143),
        (Signal::HUP, "HUP", 129),
    ];
    for pty in ["--no-pty", "--pty"] {
        for (signal, name, code) in cases {
            let server = Server::start();
            // What it dies of, and what it makes of it.
            for (script, code) in [
                (format!("echo ready; {UNTIL_KILLED}"), code),
                (
                    format!("trap 'echo got it; exit 7' {name}; echo ready; {UNTIL_KILLED}"),
                    7,
                ),
            ] {
                let run = Run::spawn(fanfare(&server, &["exec", pty, "--", "sh", "-c", &script]));
                run.out.until("ready");
                run.signal(signal);
                let done = run.wait();
                assert_eq!(done.code, Some(code), "{pty} {name} {script}: {done:?}");
                assert_eq!(done.out.contains("got it"), code == 7, "{pty} {name}");
            }
            let events = server.events_until(|event| event.data["exit_code"] == 7);
            let ends: Vec<_> = events.iter().filter(|event| event.is_end()).collect();
            for end in &ends {
                assert_eq!(end.kind, "task:cancelled", "{pty} {name}");
                assert_eq!(end.data["signal"], format!("SIG{name}"), "{pty} {name}");
            }
            assert_eq!(ends.len(), 2);
        }
    }
}

#[test]
fn the_third_signal_ends_a_command_that_did_not_heed_two() {
    let server = Server::start();
    let script =
        "trap 'n=$((n + 1)); echo \"no $n\"' INT; echo ready; while :; do sleep 0.02; done";
    let run = Run::spawn(sh(&server, script));
    run.out.until("ready");
    for answer in ["no 1", "no 2"] {
        run.signal(Signal::INT);
        run.out.until(answer);
    }
    run.signal(Signal::INT);
    let done = run.wait();
    done.assert_code(137);
    let end = server.events().pop().unwrap();
    assert_eq!(end.kind, "task:cancelled");
    assert_eq!(end.data["signal"], "SIGKILL");
}

#[test]
fn ctrl_c_in_a_terminal_reaches_the_command_and_the_task_is_cancelled() {
    for pty in ["--no-pty", "--pty"] {
        for _ in 0..5 {
            let server = Server::start();
            let script = format!("echo ready; {UNTIL_KILLED}");
            let command = fanfare(&server, &["exec", pty, "--", "sh", "-c", &script]);
            let terminal = Terminal::spawn(command, 80);
            terminal.screen.until("ready");
            terminal.type_keys("\x03");
            let done = terminal.run.wait();
            assert_eq!(done.code, Some(130), "{pty}: {done:?}");
            let end = server.events().pop().unwrap();
            assert_eq!(
                (end.kind.as_str(), &end.data["signal"]),
                ("task:cancelled", &json!("SIGINT")),
                "{pty}"
            );
        }
    }
}

#[test]
fn a_signal_that_ends_the_command_and_comes_to_us_after_it_cancels_the_task() {
    // A process that was left behind holds the command's output, or does not.
    for output in ["", ">/dev/null 2>&1"] {
        let server = Server::start();
        let script = format!("(sleep 0.1; kill -TERM $PPID) {output} & kill -TERM $$");
        run(sh(&server, &script)).assert_code(143);
        let end = server.events().pop().unwrap();
        assert_eq!(end.kind, "task:cancelled", "{output:?}");
    }
}

#[test]
fn keys_that_end_jobs_go_to_the_command_however_often() {
    let server = Server::start();
    let script = format!(
        "trap 'n=$((n + 1)); echo \"no $n\"' INT; trap 'exit 9' QUIT; echo ready; {UNTIL_KILLED}"
    );
    let terminal = Terminal::spawn(sh(&server, &script), 80);
    terminal.screen.until("ready");
    for answer in ["no 1", "no 2", "no 3", "no 4"] {
        terminal.type_keys("\x03");
        terminal.screen.until(answer);
    }
    terminal.type_keys("\x1c");
    terminal.run.wait().assert_code(9);
    let end = server.events().pop().unwrap();
    assert_eq!(
        (end.kind.as_str(), &end.data["signal"]),
        ("task:cancelled", &json!("SIGQUIT"))
    );
}

#[test]
fn ctrl_z_gives_the_terminal_back_to_the_shell_until_it_says_fg() {
    let server = Server::start();
    let script = "set -m; \"$0\" exec -- sh -c 'echo ready; read word; echo \"got $word\"'; \
                  echo stopped; stty -a; read line; echo \"shell $line\"; fg";
    let exec = fanfare(&server, &[]);
    let program = exec.get_program().to_owned();
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).arg(program);
    for (name, value) in exec.get_envs() {
        value.map(|value| command.env(name, value));
    }
    let terminal = Terminal::spawn(command, 80);
    terminal.screen.until("ready");
    terminal.type_keys("\x1a");
    let screen = terminal.screen.until("stopped");
    assert!(!screen.contains("got"), "{screen}");
    terminal.type_keys("first\n");
    terminal.screen.until("shell first");
    terminal.type_keys("second\n");
    let done = terminal.run.wait();
    done.assert_code(0);
    assert!(done.out.contains("got second"), "{done:?}");
    assert!(done.out.contains(" icanon"), "{done:?}");
    assert_eq!(server.events().pop().unwrap().kind, "task:completed");
}

#[test]
fn the_exit_status_is_known_where_whoever_started_us_ignores_the_end_of_children() {
    let server = Server::start();
    let exec = fanfare(&server, &["exec", "--", "sh", "-c", "exit 3"]);
    let mut command = std::process::Command::new("env");
    command
        .arg("--ignore-signal=CHLD")
        .arg(exec.get_program())
        .args(exec.get_args());
    for (name, value) in exec.get_envs() {
        value.map(|value| command.env(name, value));
    }
    run(command).assert_code(3);
}

#[test]
fn a_command_that_takes_ctrl_c_for_something_else_is_not_cancelled() {
    let server = Server::start();
    let script =
        "trap 'echo not yet' INT; echo ready; until read word; do :; done; echo \"read $word\"";
    let terminal = Terminal::spawn(sh(&server, script), 80);
    terminal.screen.until("ready");
    terminal.type_keys("\x03");
    terminal.screen.until("not yet");
    terminal.type_keys("word\n");
    terminal.run.wait().assert_code(0);
    assert_eq!(server.events().pop().unwrap().kind, "task:completed");
}

#[test]
fn under_a_terminal_the_command_has_one_of_the_same_size_and_gets_the_keys() {
    let server = Server::start();
    let script = "for n in 0 1 2; do test -t $n || echo no terminal; done; stty size; \
                  trap 'stty size; echo resized' WINCH; printf 'name? '; read name; echo \"hello $name\"; \
                  echo ready; until read word; do :; done; echo \"bye $word\"";
    let terminal = Terminal::spawn(sh(&server, script), 97);
    terminal.screen.until("name? ");
    server.events_until(|event| event.data["partial"]["text"] == "name? ");
    terminal.type_keys("Ada\n");
    terminal.screen.until("ready");
    terminal.resize(31, 131);
    terminal.screen.until("resized");
    terminal.type_keys("now\n");
    let done = terminal.run.wait();
    done.assert_code(0);
    assert!(!done.out.contains("no terminal"), "{}", done.out);
    for text in ["24 97", "hello Ada", "31 131", "bye now"] {
        assert!(done.out.contains(text), "{text}: {}", done.out);
    }
    let events = server.events();
    assert!(lines(&events).contains(&"hello Ada"), "{events:#?}");
}

#[test]
fn standard_input_is_the_commands() {
    let server = Server::start();
    for pty in ["--no-pty", "--pty"] {
        let mut command = fanfare(&server, &["exec", "-q", pty, "--", "cat"]);
        command.stdin(std::process::Stdio::piped());
        let mut run = Run::spawn(command);
        run.say("hi\n");
        run.out.until("hi");
        run.say("all of it, to the end\n");
        let done = run.wait();
        done.assert_code(0);
        let out = done.out.replace('\r', "");
        assert_eq!(out, "hi\nall of it, to the end\n", "{pty}");
    }
}

#[test]
fn percentages_that_it_prints_are_its_progress() {
    let server = Server::start();
    let script = "printf '10%%\\r'; sleep 0.3; printf '[2/4] half\\n'; echo '0% packet loss'; echo '99.5% done'; sleep 0.3; echo end";
    run(sh(&server, script)).assert_code(0);
    let events = server.events();
    let mut progress: Vec<_> = events
        .iter()
        .filter_map(|event| event.data["progress"].as_f64())
        .collect();
    progress.dedup();
    assert!(
        progress.is_sorted() && progress.last() == Some(&0.995),
        "{progress:?}"
    );
    assert!(progress.contains(&0.1), "{progress:?}");
    let touched = events
        .iter()
        .find(|event| event.data["progress"] == 0.1)
        .unwrap();
    assert!(touched.ephemeral, "what has no finished line is not kept");
}

#[test]
fn a_flood_is_published_in_at_most_20_events_a_second_and_its_last_line_always() {
    let server = Server::start();
    let done = run(sh(&server, "seq 1 100000; printf 'the end'"));
    done.assert_code(0);
    assert_eq!(done.out.lines().count(), 100_001, "all of it is printed");
    let events = server.events();
    let status: Vec<_> = events
        .iter()
        .filter(|event| event.kind == "task:status")
        .collect();
    for window in status.windows(21) {
        let span = window[20].at_ms - window[0].at_ms;
        assert!(span >= 1_000, "21 events within {span} ms");
    }
    let lines = lines(&events);
    assert_eq!(lines.last(), Some(&"the end"));
    let dropped: u64 = status
        .iter()
        .filter_map(|event| event.data["dropped"].as_u64())
        .sum();
    assert_eq!(dropped + lines.len() as u64, 100_001, "what went is said");
    let numbers: Vec<u32> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(events.last().unwrap().kind, "task:completed");
}

#[test]
fn whatever_bytes_are_printed_text_is_published_and_the_bytes_are_printed() {
    let server = Server::start();
    let script = r"printf 'a\377b\n\033[31mred\033[0m\nold\rnew\ngr\303\274n'";
    let mut command = sh(&server, script);
    command.stderr(std::process::Stdio::null());
    let out = command.output().unwrap().stdout;
    assert_eq!(out, b"a\xffb\n\x1b[31mred\x1b[0m\nold\rnew\ngr\xc3\xbcn");
    assert_eq!(
        lines(&server.events()),
        ["a\u{fffd}b", "red", "new", "gr\u{fc}n"]
    );
}

#[test]
fn a_reader_that_is_slower_than_the_command_gets_all_of_its_output() {
    let server = Server::start();
    let mut command = sh(&server, "seq 1 20000; echo ended >&2");
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let err = Text::default();
    let collecting = err.collect(child.stderr.take().unwrap(), |_| {});
    // The command has written all and ended, since its pipe and ours together hold it; nobody has read yet.
    err.until("ended");
    // Nothing is waited for: this is the slow reader itself, slower than the second after which output was cut once.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let mut out = String::new();
    reader.read_to_string(&mut out).unwrap();
    assert_eq!(out.lines().last(), Some("20000"));
    assert!(child.wait().unwrap().success());
    collecting.join().unwrap();
}

#[test]
fn when_nobody_reads_its_output_any_more_the_command_notices_as_it_would_alone() {
    let server = Server::start();
    for pty in ["--no-pty", "--pty"] {
        let mut command = fanfare(&server, &["exec", "-q", pty, "--", "yes"]);
        let (mut reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let mut run = Run::of(child, Text::default(), Text::default(), Vec::new());
        reader.read_exact(&mut [0; 2]).unwrap();
        drop(reader);
        let status = run.status();
        assert!(
            matches!(status.code(), Some(129 | 141)),
            "{pty}: {status:?}"
        );
    }
}

#[test]
fn what_the_command_left_behind_does_not_hold_up_its_end() {
    let server = Server::start();
    let mut run = Run::spawn(sh(
        &server,
        "sleep 600 & echo \"pid $!\"; printf unfinished",
    ));
    let status = run.status();
    let pid: i32 = run
        .out
        .now()
        .lines()
        .find_map(|line| line.strip_prefix("pid ")?.parse().ok())
        .unwrap();
    let left = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(left, Signal::KILL).unwrap();
    assert_eq!(status.code(), Some(0));
    let events = server.events();
    assert_eq!(lines(&events).last(), Some(&"unfinished"));
    let last_output = &events[events.len() - 2];
    assert!(!last_output.ephemeral, "{last_output:?}");
}

#[test]
fn a_task_that_its_back_end_created_is_run_without_a_word_about_that() {
    let server = Server::start();
    let task = format!("task:{TASK}");
    run(fanfare(&server, &["publish", &task, "task:created", "{}"])).assert_code(0);
    let done = run(fanfare(&server, &["exec", "--task", TASK, "--", "true"]));
    done.assert_code(0);
    assert!(!done.err.contains("refused"), "{done:?}");
    assert_eq!(
        kinds(&server.events()),
        ["task:created", "task:started", "task:completed"]
    );
    // One that has ended can't be run again: that is said, once, and the command runs.
    let done = run(fanfare(
        &server,
        &["exec", "--task", TASK, "--", "echo", "ran"],
    ));
    done.assert_code(0);
    assert_eq!(done.out, "ran\n");
    assert_eq!(done.err.matches("refused").count(), 1, "{done:?}");
    assert!(done.err.contains("lifecycle"), "{done:?}");
}

#[test]
fn our_own_keys_are_not_published() {
    let server = Server::start();
    let script = "env | grep FANFARE; echo $FANFARE_TASK >&2";
    let done = run(fanfare(
        &server,
        &["exec", "--task", TASK, "--", "sh", "-c", script],
    ));
    assert!(done.out.contains(crate::server::API_KEY), "{done:?}");
    let events = server.events();
    assert!(lines(&events).contains(&"FANFARE_API_KEY=***"));
    assert!(lines(&events).contains(&TASK));
    for event in &events {
        let data = event.data.to_string();
        for secret in [crate::server::API_KEY, crate::server::TOKEN_SECRET] {
            assert!(!data.contains(secret), "{data}");
        }
    }
}
