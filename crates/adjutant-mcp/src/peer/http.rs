//! Servers at an address.

use std::{error::Error, path::Path};

use super::{Dial, RmcpPeer, StartError};
use crate::{config::ServerConfig, locate::Lookup, secrets::Resolved};

/// Whether a request whose sending failed may have arrived all the same: not when a line could not be written to its end,
/// nor when nobody was there to take it.
pub(super) fn may_have_arrived(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<reqwest::Error>() {
            return !error.is_connect() && !error.is_builder();
        }
        if current.is::<std::io::Error>() {
            return false;
        }
        cause = current.source();
    }
    true
}

pub(crate) async fn reach(
    _config: &ServerConfig,
    _headers: &Resolved,
    _dir: &Path,
    _lookup: &Lookup,
    _dial: Dial,
) -> Result<RmcpPeer, StartError> {
    Err(StartError {
        why: "later".into(),
        lasting: true,
        probe: false,
    })
}
