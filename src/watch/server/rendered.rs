//! A view in each form that is asked for, made once.

use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;

use crate::watch::view::View;
use crate::watch::{metrics, page};

/// A view, and what was made of it so far.
pub struct Rendered {
    pub view: Arc<View>,
    page: OnceLock<Bytes>,
    part: OnceLock<(Bytes, String)>,
    json: OnceLock<Bytes>,
    metrics: OnceLock<Bytes>,
}

impl Rendered {
    pub const fn new(view: Arc<View>) -> Self {
        Self {
            view,
            page: OnceLock::new(),
            part: OnceLock::new(),
            json: OnceLock::new(),
            metrics: OnceLock::new(),
        }
    }

    pub fn page(&self) -> Bytes {
        self.page.get_or_init(|| page::page(&self.view).into()).clone()
    }

    /// The part, and its entity tag.
    pub fn part(&self) -> (Bytes, String) {
        let make = || {
            let part = page::part(&self.view);
            let etag = page::etag(&part);
            (part.into(), etag)
        };
        self.part.get_or_init(make).clone()
    }

    pub fn json(&self) -> Bytes {
        // A view has text as keys alone, so it can be written.
        self.json.get_or_init(|| serde_json::to_vec(&*self.view).unwrap_or_default().into()).clone()
    }

    pub fn metrics(&self) -> Bytes {
        self.metrics.get_or_init(|| metrics::metrics(&self.view).into()).clone()
    }
}
