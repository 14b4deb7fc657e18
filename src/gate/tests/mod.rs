//! The gate in front of a real tiny_http.

mod framing;
mod life;
mod pressure;
mod room;
mod tls;
