//! deskspool.
pub mod cli {
    //! One file per verb.
    pub mod sandbox;
}
pub mod clock;
pub mod freshdesk;
pub mod sandbox;
pub mod source;
