//! Requests that lead to no server: told why, and recorded.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use http_body_util::Full;
use hyper::Response;
use hyper::rt::Executor;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use winni::model::Outcome;
use wire::websocket::{Opcode, close_payload, server_frame};

use super::handshake::offered_protocols;
use crate::entry::RESPONSE_HEAD;
use crate::gateway::answer::{Answer, Hangup, ResponseBody};
use crate::gateway::asked::{Asked, To};
use crate::gateway::life::Life;
use crate::gateway::refuse::Refusal;
use crate::gateway::shared::Shared;
use crate::gateway::ways::Stray;
use crate::recorder::Kept;

/// The close code of a server that is not on the list.
const NOT_ALLOWED: u16 = 4001;
/// How long a client may take to hang up when it has been told why.
const PATIENCE: Duration = Duration::from_secs(2);
/// RFC 6455, section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers in place of a server that there is none of.
pub(crate) async fn turn_away(shared: &Arc<Shared>, life: Life, mut asked: Asked, stray: Stray) -> Answer {
    let reason = reason(&stray);
    let recording = match shared.recorder.begin(&asked.as_new(To::default(), None)) {
        Ok(recording) => recording,
        Err(error) => return Ok(Refusal::not_recordable(&error.to_string()).unrecorded()),
    };
    let key = asked.headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).map(accept);
    let on_upgrade = asked.extensions.remove::<OnUpgrade>();
    let (Some(accept), Some(on_upgrade), Stray::Server { .. }) = (key, on_upgrade, &stray) else {
        let refusal = Refusal::not_forwardable(StatusCode::NOT_FOUND, reason);
        return refusal.answer(recording, &asked.method).await.ok_or(Hangup);
    };
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    // A client that offers subprotocols may not even look at the reason unless one is chosen.
    if let Some(protocol) = offered_protocols(&asked.headers).next().and_then(|name| HeaderValue::from_str(name).ok()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let head = shared.recorder.response_head(StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11, &headers);
    if recording.finish(&[(RESPONSE_HEAD, &head)], Outcome::Refused) == Kept::MustNotPass {
        return Err(Hangup);
    }
    life.execute(close(on_upgrade, reason));
    let mut response = Response::new(ResponseBody::Own(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(response)
}

fn reason(stray: &Stray) -> String {
    match stray {
        Stray::Server { asked, allowed } => {
            let asked: String = asked.chars().take(32).collect();
            format!("unknown upstream `{asked}`; allowed: {}", allowed.join(", "))
        }
        Stray::Nowhere => {
            "iccm's spy serves ws://HOST:PORT?upstream=NAME and http://HOST:PORT/mcp/NAME, with NAME a server \
                           of its configuration."
                .into()
        }
    }
}

/// What proves to a client that its handshake was understood.
fn accept(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    // Base64 always is a header value.
    HeaderValue::from_str(&STANDARD.encode(digest)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Says why, and waits for the client to hang up.
async fn close(on_upgrade: OnUpgrade, reason: String) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let mut io = TokioIo::new(upgraded);
    let frame = server_frame(Opcode::CLOSE, &close_payload(NOT_ALLOWED, &reason));
    let goodbye = async {
        io.write_all(&frame).await?;
        io.shutdown().await?;
        while io.read(&mut [0; 1024]).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    if !matches!(tokio::time::timeout(PATIENCE, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("a client that was turned away did not hang up in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_answered_as_the_specification_shows() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
