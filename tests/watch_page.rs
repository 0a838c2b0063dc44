//! The watcher's page in a real browser, and its server over real connections. Nothing else of a watcher is
//! there: what is shown is made here, and changed while somebody looks.

mod browser;
mod connections;
mod hooks;
mod looked_at;
mod sample;
mod site;
