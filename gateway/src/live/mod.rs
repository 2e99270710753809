//! Changes of views as they come: `GET /v1/live`, a WebSocket.

mod message;
mod outlet;
mod socket;
mod subscription;
mod teller;

use std::sync::Arc;

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};

use crate::{
    http::{
        app::App,
        extract::{Caller, SUBPROTOCOL},
        shares::Asker,
    },
    problem::Problem,
};

/// The protocol, for the description of the API.
pub const ABOUT: &str = "Send the token in `Authorization`, or from a browser as the second subprotocol: \
`Sec-WebSocket-Protocol: cnc.bearer, <token>`; never in the URL. Messages are JSON texts. Ask with \
`{\"subscribe\":{\"id\":\"a\",\"view\":\"alerts\",\"filters\":{},\"after\":42}}`, `{\"unsubscribe\":{\"id\":\"a\"}}` or \
`{\"ping\":1}`. Without `after` comes `{\"snapshot\":{\"id\",\"view\",\"position\",\"rows\",\"more\"}}`, in several parts \
while `more` is true, with a `health` where the view is not well; with it, what has changed since. Then comes \
`{\"change\":{\"id\",\"view\",\"position\",\"previous\",\"rows\",\"removed\"}}`: `previous` is the position that you were told \
last; where it is not, or on `{\"requery\":{\"id\"}}`, subscribe again without `after`. A row that leaves the filters or \
your branches is `removed`. `{\"error\":{\"id\",\"code\",\"detail\"}}` answers what cannot be done. The server closes with \
1001 (it stops), 1009 (a message of more than 16 KiB), 1013 (too much waits to be read by this user or by all: try again \
later), 4400 (not a message), 4401 (token invalid or expired), 4403 (not allowed any more) or 4408 (too slow, or no sign of \
life).";

/// The largest message that a client may send.
const MESSAGE_MAX: usize = 16 << 10;
/// One that is larger than this is not even read, so that its sender may miss why the socket is closed.
const READ_MAX: usize = 64 << 10;
/// What is kept of a client's messages while they come.
const READ_BUFFER: usize = 4 << 10;

/// Opens a socket.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Extension(asker): Extension<Asker>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    app.grant(&claims, "live", None).await?;
    let upgrade = upgrade.map_err(|_| Problem::bad_request("not_a_websocket", "this route speaks WebSocket only"))?;
    let place = app.sockets.try_take(asker).ok_or_else(|| {
        Problem::busy("there are as many sockets as this server takes, or takes of one company, address or user")
    })?;
    let upgrade = upgrade.protocols([SUBPROTOCOL]).max_message_size(READ_MAX).max_frame_size(READ_MAX);
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        socket::serve(app, claims, asker, socket).await;
        drop(place);
    }))
}
