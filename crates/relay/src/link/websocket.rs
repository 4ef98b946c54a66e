//! MCP over WebSocket: one message a frame, subprotocol `mcp`.
//!
//! There is no limit to a message's size. A server that does not know the subprotocol is taken, too.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use url::Url;

use super::connector::{Connector, Stream, cause};
use super::{Ends, Event, Failure, Link, Messages, Seen};

const SUBPROTOCOL: &str = "mcp";

type Socket = WebSocketStream<TokioIo<Stream>>;

/// Connects and shakes hands.
pub(crate) async fn open(connector: &Connector, url: &Url, headers: &HeaderMap, seen: Seen) -> Result<Link, Failure> {
    let socket = match handshake(connector, url, headers, true).await {
        Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol))) => {
            tracing::debug!(%url, "the server does not know the subprotocol mcp; connecting without");
            handshake(connector, url, headers, false).await
        }
        other => other,
    };
    let socket = socket.map_err(|error| refused(&error))?;
    let (link, ends) = Link::new(seen);
    Ok(serve(link, ends, socket))
}

async fn handshake(
    connector: &Connector,
    url: &Url,
    headers: &HeaderMap,
    with_subprotocol: bool,
) -> Result<Socket, Error> {
    let uri: Uri = url.as_str().parse().map_err(|_| Error::Url(unusable_url()))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = if url.scheme() == "wss" { "https" } else { "http" };
    let place: Uri = format!("{scheme}://{authority}{path}").parse().map_err(|_| Error::Url(unusable_url()))?;
    let stream = connector.connect(place).await.map_err(|failure| Error::Io(std::io::Error::other(failure)))?;
    let mut request = Request::builder()
        .uri(uri)
        .header("host", authority)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .body(())?;
    if with_subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    }
    request.headers_mut().extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, TokioIo::new(stream), Some(config)).await?;
    Ok(socket)
}

fn unusable_url() -> tokio_tungstenite::tungstenite::error::UrlError {
    tokio_tungstenite::tungstenite::error::UrlError::UnsupportedUrlScheme
}

fn refused(error: &Error) -> Failure {
    match error {
        Error::Io(error) => Failure::passing(cause(error)),
        Error::Http(response) if matches!(response.status().as_u16(), 502..=504) => {
            Failure::passing(format!("the server answers {} to the WebSocket handshake", response.status()))
        }
        Error::Http(response) => {
            Failure::lasting(format!("the server answers {} to the WebSocket handshake", response.status()))
        }
        other => Failure::passing(format!("no WebSocket: {}", cause(other))),
    }
}

fn serve(mut link: Link, ends: Ends, socket: Socket) -> Link {
    let (sink, stream) = socket.split();
    let Ends { outgoing, events, stop, seen } = ends;
    link.own(tokio::spawn(write(sink, Messages { outgoing, stop: stop.clone(), seen })));
    link.own(tokio::spawn(async move {
        let lost = tokio::select! {
            lost = read(stream, &events) => lost,
            () = stop.cancelled() => return,
        };
        // Nobody listens any more when the link was closed at the same moment.
        let _ = events.send(Event::Lost(lost)).await;
    }));
    link
}

async fn write(mut sink: SplitSink<Socket, Message>, mut messages: Messages) {
    while let Some(bytes) = messages.next().await {
        let Ok(text) = Utf8Bytes::try_from(bytes) else { continue };
        // The reader learns of a broken connection, too, and tells.
        if sink.send(Message::Text(text)).await.is_err() {
            return;
        }
    }
    // A peer that does not read is no reason to wait.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(500), sink.close()).await;
}

/// Hands over what comes until the connection ends; gives the reason.
async fn read(mut stream: SplitStream<Socket>, events: &tokio::sync::mpsc::Sender<Event>) -> Failure {
    while let Some(next) = stream.next().await {
        let bytes: Bytes = match next {
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(Some(frame))) => {
                return Failure::passing(format!("the server closed the connection: {} {}", frame.code, frame.reason));
            }
            Ok(Message::Close(None)) => return Failure::passing("the server closed the connection"),
            Ok(_) => continue,
            Err(error) => return Failure::passing(format!("the connection broke: {}", cause(&error))),
        };
        if events.send(Event::Message { bytes, within: None }).await.is_err() {
            break;
        }
    }
    Failure::passing("the connection has ended")
}
