//! The one integration binary.

#[cfg(all(feature = "aws", feature = "ssh"))]
mod ami;
#[cfg(feature = "aws")]
mod audit;
mod backup;
mod bake;
mod change;
mod check;
mod commands;
mod convergence;
mod database;
mod demo;
#[cfg(feature = "ssh")]
mod derive;
mod derived;
mod docs;
mod exhaustive;
mod fleet;
mod foreign;
mod images;
mod init;
mod lock;
mod nightly;
#[cfg(feature = "aws")]
mod publish;
mod pytools;
mod replay;
#[cfg(feature = "aws")]
mod rolls;
mod sandbox;
mod sbom;
mod scripts;
mod simulate;
mod simulation;
#[cfg(feature = "ssh")]
mod ssh;
mod view;
mod watch_page;
