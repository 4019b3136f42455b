//! The certificate that this replica serves now.

use crate::admission::certificate::pair::Good;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};

/// What is served to whoever connects next; nothing once it has expired.
#[derive(Debug, Default)]
pub struct Served(RwLock<Option<Good>>);

impl Served {
    /// Serves that from now on. Whether it is another than before.
    pub fn serve(&self, pair: Good) -> bool {
        let mut served = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let other = served.as_ref() != Some(&pair);
        *served = Some(pair);
        other
    }

    /// What is served, while it is good.
    pub fn now(&self, now: Timestamp) -> Option<Good> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|pair| pair.is_good(now))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now(Timestamp::now())?.key)
    }
}
