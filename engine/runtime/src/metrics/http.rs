//! `GET /metrics`, `/health` and `/ready` of a node, on its administration port.
//!
//! Nothing here changes anything or shows an account, and nobody proves who asks; see docs/THREAT_MODEL.md. A connection is for one
//! request, of at most [`HEAD_BYTES_MAX`], within [`DEADLINE`]; at most [`CONNECTIONS_MAX`] are open at once, later ones are closed.

use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use glommio::spawn_local;
use glommio::timer::sleep;
use quorate_net::{Sockets, Stream, give_way};

use super::Page;
use crate::acceptor::{Accepted, Acceptor};
use crate::limits::HANDED_MAX;

const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 64;
/// From the connection to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is dropped, and with it the port is closed.
pub(crate) async fn serve(acceptor: Acceptor, bell: Stream, sockets: Rc<Sockets>, page: Page) {
    let open = Rc::new(Cell::new(0_usize));
    let mut told = [0; HANDED_MAX];
    loop {
        match bell.read(&mut told).await {
            Ok(count @ 1..) => (0..count)
                .filter_map(|_| acceptor.next())
                .for_each(|accepted| take(accepted, &sockets, &page, &open)),
            ended => {
                tracing::error!(?ended, "nothing is accepted any more for metrics");
                return;
            }
        }
        give_way().await;
    }
}

fn take(accepted: Accepted, sockets: &Rc<Sockets>, page: &Page, open: &Rc<Cell<usize>>) {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("accept failed: {error}"),
    };
    if open.get() >= CONNECTIONS_MAX {
        return tracing::debug!("too many ask for metrics");
    }
    open.set(open.get() + 1);
    let (sockets, page, open) = (Rc::clone(sockets), page.clone(), Rc::clone(open));
    let serving = async move {
        let too_late = async {
            sleep(DEADLINE).await;
        };
        future::or(converse(&sockets, stream, &page), too_late).await;
        open.set(open.get() - 1);
    };
    spawn_local(serving).detach();
}

async fn converse(sockets: &Rc<Sockets>, stream: TcpStream, page: &Page) {
    let stream = match Stream::new(sockets, stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!("connection not usable: {error}"),
    };
    let mut head = Vec::with_capacity(1 << 10);
    let answer = loop {
        let mut buffer = [0; 1 << 10];
        match stream.read(&mut buffer).await {
            Ok(bytes @ 1..) => head.extend_from_slice(&buffer[..bytes]),
            Ok(0) | Err(_) => return,
        }
        if let Some(answer) = answer(&head, page) {
            break answer;
        }
        if head.len() >= HEAD_BYTES_MAX {
            break Answer::text(431, "the request is too long\n");
        }
    };
    if let Err(error) = stream.write_all(&answer.bytes()).await {
        tracing::debug!("answer not written: {error}");
    }
}

struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
    /// Of `HEAD`: the length is told, the body is not.
    is_head: bool,
}

impl Answer {
    fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            body: body.to_owned(),
            is_head: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self {
            status, kind, body, ..
        } = self;
        let reason = match status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            500 => "Internal Server Error",
            _ => "Bad Request",
        };
        let allow = if *status == 405 {
            "allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let mut text = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\n{allow}connection: close\r\n\r\n",
            body.len()
        );
        if !self.is_head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

/// `None` while the head is not complete.
fn answer(head: &[u8], page: &Page) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Answer::text(431, "too many headers\n"));
        }
        Err(error) => return Some(Answer::text(400, &format!("{error}\n"))),
    }
    let method = request.method.unwrap_or_default();
    if !matches!(method, "GET" | "HEAD") {
        return Some(Answer::text(405, "only GET and HEAD\n"));
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let verdict = |(is_well, document): (bool, serde_json::Value)| Answer {
        status: if is_well { 200 } else { 503 },
        kind: JSON,
        body: format!("{document}\n"),
        is_head: false,
    };
    let answer = match path {
        "/metrics" => match page.metrics() {
            Ok(body) => Answer {
                status: 200,
                kind: OPEN_METRICS,
                body,
                is_head: false,
            },
            Err(_) => Answer::text(500, "the figures are not to be had\n"),
        },
        "/health" => verdict(page.health()),
        "/ready" => verdict(page.readiness()),
        _ => Answer::text(404, "there are /metrics, /health and /ready\n"),
    };
    Some(Answer {
        is_head: method == "HEAD",
        ..answer
    })
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::NodeId;

    use super::*;

    fn status(request: &str) -> Option<u16> {
        let page = Page::new(NodeId(1), []);
        answer(request.as_bytes(), &page).map(|answer| answer.status)
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", Some(200)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Some(200)),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", Some(200)),
            ("GET /health HTTP/1.1\r\n\r\n", Some(200)),
            ("GET /ready HTTP/1.1\r\n\r\n", Some(200)),
            ("GET / HTTP/1.1\r\n\r\n", Some(404)),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some(405)),
            ("GET /metrics HTTP/1.1\r\nhost", None),
            ("", None),
            ("QRT1\0\0\0\0 nonsense\r\n\r\n", Some(400)),
        ] {
            assert_eq!(status(request), expected, "{request:?}");
        }
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Some(431));
    }

    #[test]
    fn the_length_is_that_of_the_body_and_head_has_none() {
        let page = Page::new(NodeId(1), []);
        let parts = |request: &str| {
            let bytes = answer(request.as_bytes(), &page).expect("complete").bytes();
            let text = String::from_utf8(bytes).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse::<usize>().ok());
            (length.expect("a length"), body.len())
        };
        let (length, body) = parts("GET /ready HTTP/1.1\r\n\r\n");
        assert_eq!((length, body), (body, length));
        assert_eq!(parts("HEAD /ready HTTP/1.1\r\n\r\n"), (length, 0));
    }
}
