//! Images that a person wants kept, whatever else reaches them: `pins/<id>.json` in the store.

use super::marks::Marks;
use crate::store::Store;

/// Returns the pins of a store.
#[must_use]
pub fn pins(store: &Store) -> Marks {
    Marks::new(vec![store.objects().under("pins")])
}
