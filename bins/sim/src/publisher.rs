//! A back end: publishes one thing after the other over HTTP, and tries again what has to arrive.

use std::io;
use std::rc::Rc;

use async_channel::Receiver;
use serde_json::Value;

use crate::history::Seen;
use crate::machine::API_KEY;
use crate::net::{Net, Node};
use crate::wire::{Answer, Wire};

/// Milliseconds for an answer.
const PATIENCE_MS: u64 = 15_000;
/// Longest wait before the next try, in milliseconds.
const WAIT_MAX_MS: u64 = 5_000;

/// A publish: where it is posted, what, and whether it is tried until it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) insists: bool,
    /// Whether it is gone as soon as it has sent it.
    pub(crate) dies: bool,
}

/// Sends what it is told, in its order, as the back end of this number.
pub(crate) async fn run(net: Rc<Net>, number: usize, requests: Receiver<Request>) {
    while let Ok(request) = requests.recv().await {
        publish(&net, Node::BackEnd(number), &request).await;
    }
}

async fn publish(net: &Net, node: Node, request: &Request) {
    let number = request.number;
    let head = format!(
        "POST {} HTTP/1.1\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\nConnection: close\r\n",
        request.path
    );
    let (mut wait, body) = (100, request.body.to_string());
    loop {
        net.observe(Seen::Publishing {
            number,
            path: request.path.clone(),
            body: request.body.clone(),
        });
        if request.dies {
            let asked = async { Wire::new(net.connect(node).await?).ask(&head, &body).await };
            let _ = net.within(PATIENCE_MS, asked).await;
            return net.observe(Seen::Unanswered { number });
        }
        let answer = net.within(PATIENCE_MS, ask(net, node, &head, &body));
        match answer.await {
            // It can't be taken now.
            Ok(answer) if answer.status == 503 && request.insists => {}
            Ok(answer) => {
                let body = serde_json::from_slice(&answer.body).unwrap_or_default();
                let status = answer.status;
                return net.observe(Seen::Published {
                    number,
                    status,
                    body,
                });
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    let what = error.to_string();
                    net.observe(Seen::Garbled { conn: None, what });
                }
                if !request.insists {
                    return net.observe(Seen::Unanswered { number });
                }
            }
        }
        net.sleep_ms(net.draw(node, wait)).await;
        wait = (2 * wait).min(WAIT_MAX_MS);
    }
}

async fn ask(net: &Net, node: Node, head: &str, body: &str) -> io::Result<Answer> {
    Wire::new(net.connect(node).await?)
        .request(head, body)
        .await
}

/// Reads what a back end can read, page by page, and shows it to the oracles.
pub(crate) async fn audit(net: Rc<Net>, paths: Vec<String>) {
    for path in paths {
        let mut next = Some(path);
        while let Some(path) = next.take() {
            let head = format!(
                "GET {path} HTTP/1.1\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close\r\n"
            );
            let Ok(answer) = net
                .within(PATIENCE_MS, ask(&net, Node::Auditor, &head, ""))
                .await
            else {
                return;
            };
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            next = body["next"].as_str().map(str::to_owned);
            net.observe(Seen::Found { path, body });
        }
    }
}
