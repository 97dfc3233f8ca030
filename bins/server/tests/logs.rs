//! What the log never holds, however much it is asked to say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::{Read, Write};

use server::{API_KEY, Server, TASK, handshake, token};

/// What stands in payloads, in what is no message at all, and in the reason of a close.
const SECRET: &str = "s3cret";

/// A frame as clients send it: masked, here by zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | length),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Opens a WebSocket, sends `frames`, waits until the server has said `answer`, and leaves with a reason.
fn say(server: &Server, handshake: &str, frames: &[Vec<u8>], answer: &str) {
    let mut stream = server.connect();
    stream.write_all(handshake.as_bytes()).unwrap();
    stream.write_all(&frames.concat()).unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(answer) {
        let mut byte = [0];
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(read, 1, "{answer}: {}", String::from_utf8_lossy(&said));
        said.extend(byte);
    }
    let close = [&1000_u16.to_be_bytes(), SECRET.as_bytes()].concat();
    stream.write_all(&frame(8, &close)).unwrap();
    stream.read_to_end(&mut said).unwrap();
}

#[test]
fn a_log_that_says_all_there_is_holds_no_token_no_key_and_no_payload() {
    let mut server = Server::start(&[]);
    let (token, chat) = (token(), format!("/v1/tasks/{TASK}/chat"));
    let text = |text: &str| frame(1, text.as_bytes());
    let send = format!(
        r#"{{"op":"send","ref":1,"room":"task:{TASK}","type":"chat:message","data":"{SECRET}"}}"#
    );
    let auth = format!(r#"{{"op":"auth","token":"{token}"}}"#);
    let offer = format!("+Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{token}");
    let key = format!("Authorization: Bearer {API_KEY}");
    let by_query = handshake(&format!("{chat}?token={token}"), &[]);
    let by_message = handshake(&chat, &[]);
    for (handshake, frames, answer) in [
        (&by_query, vec![text(&send)], SECRET),
        (&by_query, vec![text(SECRET)], "bad_request"),
        (&by_query, vec![frame(9, SECRET.as_bytes())], SECRET),
        (&by_query, vec![frame(2, SECRET.as_bytes())], "goodbye"),
        (&by_message, vec![text(&auth)], "welcome"),
        (&handshake(&chat, &[&offer]), vec![], "welcome"),
        (&handshake("/v1/bus", &[&key]), vec![], "welcome"),
    ] {
        say(&server, handshake, &frames, answer);
    }
    let published = server.publish(
        "/v1/events",
        &format!(r#"{{"type":"a:b","data":"{SECRET}"}}"#),
    );
    assert_eq!(published.status, 200);
    server.assert_unharmed(&[&token, SECRET]);
    // In hexadecimal it would be no less of a secret.
    let hexadecimal: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let log = server.log();
    assert!(!log.contains(&hexadecimal), "{log}");
    assert!(log.contains("answered"), "it did log: {log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let target = line["target"].as_str().unwrap();
        assert!(target.starts_with("fanfare"), "a library's line: {line}");
    }
}
