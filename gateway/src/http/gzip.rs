//! Compression: of whole answers at once, so that nothing of it is kept while they are read; of fixed content once.

use std::io::Write as _;

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use cnc_domain::ledger::Hash;
use flate2::{Compression, write::GzEncoder};

use crate::problem::Problem;

/// Less than this is sent as it is: it fits into a packet anyway.
const WORTH: u64 = 1 << 10;

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Compresses an answer of known length where its reader takes that.
pub async fn compress(request: Request, next: Next) -> Response {
    let takes = accepts(request.headers());
    let response = next.run(request).await;
    let is_worth = response.body().size_hint().exact().is_some_and(|size| size >= WORTH);
    if !takes || !is_worth || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let compressed = match to_bytes(body, usize::MAX).await {
        Ok(plain) => gzip(&plain, Compression::fast()),
        Err(cause) => return Problem::broken("compressing an answer", cause).into_response(),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, GZIP);
    Response::from_parts(head, Body::from(compressed))
}

fn gzip(plain: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), level);
    // Memory takes all that is written to it.
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// Whether a reader takes gzip.
fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let (name, weight) = (parts.next().unwrap_or_default(), parts.find_map(|part| part.strip_prefix("q=")));
        (name.to_ascii_lowercase(), weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)))
    });
    codings.any(|(name, wanted)| name == "gzip" && wanted)
}

/// Content that never changes while the program runs, compressed once. All its readers share it.
pub struct Fixed {
    media: HeaderValue,
    tag: HeaderValue,
    plain: Bytes,
    compressed: Bytes,
}

impl Fixed {
    /// This text, of this media type.
    pub fn new(media: &'static str, text: String) -> Self {
        let hash = Hash::of(&text).to_string();
        // Weak, since it is the same for both encodings.
        let tag =
            HeaderValue::from_str(&format!("W/\"{}\"", &hash[..32])).unwrap_or(HeaderValue::from_static("W/\"\""));
        let compressed = gzip(text.as_bytes(), Compression::best()).into();
        Self { media: HeaderValue::from_static(media), tag, plain: text.into(), compressed }
    }

    /// The content, or that it has not changed since it was read.
    pub fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
        let unchanged = known.any(|tag| tag == "*" || tag.as_bytes() == self.tag.as_bytes());
        let is_compressed = accepts(asked);
        let mut response = if unchanged {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response =
                Response::new(Body::from(if is_compressed { &self.compressed } else { &self.plain }.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, self.media.clone());
            if is_compressed {
                response.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
            }
            response
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn asks(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("is a value"))])
    }

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_refused() {
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("deflate, identity", false),
            ("", false),
        ] {
            assert_eq!(accepts(&asks(header::ACCEPT_ENCODING, value)), takes, "{value}");
        }
        assert!(!accepts(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn fixed_content_is_the_same_plain_or_compressed_and_is_not_sent_again_to_who_has_it() {
        let text = "content ".repeat(1_000);
        let fixed = Fixed::new("text/plain", text.clone());
        let plain = to_bytes(fixed.answer(&HeaderMap::new()).into_body(), usize::MAX).await.expect("reads");
        assert_eq!(plain, text.as_bytes());
        let answer = fixed.answer(&asks(header::ACCEPT_ENCODING, "gzip"));
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let tag = answer.headers()[header::ETAG].to_str().expect("is text").to_owned();
        let compressed = to_bytes(answer.into_body(), usize::MAX).await.expect("reads");
        let mut read = String::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_string(&mut read).expect("is gzip");
        assert_eq!(read, text);
        for known in [tag.clone(), format!("\"other\", {tag}"), "*".into()] {
            assert_eq!(fixed.answer(&asks(header::IF_NONE_MATCH, &known)).status(), 304, "{known}");
        }
        assert_eq!(fixed.answer(&asks(header::IF_NONE_MATCH, "\"other\"")).status(), 200);
    }
}
