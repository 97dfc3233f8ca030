//! What a delivery costs this program: no allocation.

use clap::Parser;

use super::answer::Reader;
use super::frames::{Frame, cut};
use super::ledger::Ledger;
use super::mark::BYTES;
use super::target::Target;
use crate::args::{Cli, Command};

/// A publish, its answer, and what of it comes to a connection, as bytes.
fn round(
    (target, ledger, reader): (&Target, &mut Ledger, &mut Reader),
    (data, body, request, frame): (&mut [u8], &mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>),
    seq: &[u8],
) {
    ledger.send(0, 0, 0, 1, data);
    target.publish(0, data, body, request);
    frame.clear();
    frame.extend_from_slice(&[0x81, 126, 1, 0]);
    if target.is_fanfare() {
        // The task's id stands in the request's first line.
        let id = &request["POST /v1/tasks/".len()..][..36];
        frame.extend_from_slice(br#"{"type":"a:b","rooms":{"task:"#);
        frame.extend_from_slice(id);
        frame.extend_from_slice(b"\":");
        frame.extend_from_slice(seq);
        frame.extend_from_slice(br#"},"data":""#);
    }
    frame.extend_from_slice(data);
    frame.resize(260, b'x');
    assert_eq!(cut(&frame[..200]), Ok(None));
    let Ok(Some((Frame::Message(message), _))) = cut(frame) else {
        panic!("no message");
    };
    ledger.message(0, 0, message, 7);
    reader.clear();
    let whole = reader.take(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"seq\":1}   ");
    assert_eq!(whole, Ok(true));
    ledger.answered(0, None);
    assert_eq!(ledger.next_done(), Some(0));
}

#[test]
fn neither_a_publish_nor_a_delivery_allocates() {
    let fanfare =
        "fanfare bench --api-key k --token-secret 0123456789012345678901234567890123456789";
    let raw =
        "fanfare bench --raw ws://h/{room} --publish-url http://h/{room} --publish-header a:{room}";
    for words in [fanfare, raw] {
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Command::Bench(args) = &cli.command else {
            panic!("another command");
        };
        let target = Target::new(args, &cli.connection).unwrap();
        let mut ledger = Ledger::new(target.rooms, 1, 1, 1);
        let mut reader = Reader::default();
        let mut data = [b'x'; BYTES];
        let (mut body, mut request, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        let mut seq = 1_000_u32;
        let mut go = |ledger: &mut Ledger| {
            let with = (&target, ledger, &mut reader);
            let memory = (&mut data[..], &mut body, &mut request, &mut frame);
            seq += 1;
            let digits =
                [0, 1, 2, 3].map(|at| b'0' + u8::try_from(seq / 10_u32.pow(3 - at) % 10).unwrap());
            round(with, memory, &digits);
        };
        // So many that the numbers above are in the bounds of what was sent.
        for _ in 0..1_000 {
            ledger.send(0, 0, 0, 1, &mut [0; BYTES]);
        }
        go(&mut ledger);
        let before = ledger.counts.deliveries;
        let used = allocation_counter::measure(|| (0..1_000).for_each(|_| go(&mut ledger)));
        assert_eq!(used.count_total, 0, "{words}");
        assert_eq!(
            ledger.counts.deliveries - before,
            1_000,
            "{words}: {:?}",
            ledger.counts
        );
    }
}
