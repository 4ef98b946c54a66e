//! What the tests of the container images stand on: a Docker engine of their own, the images, and a project of containers.
//!
//! `scripts/test-containers` installs what is missing, builds the images and runs the tests. No registry is asked: Debian's packages stand in for the
//! images that would come from one.

pub mod engine;
pub mod images;
pub mod project;
pub mod record;

use std::path::PathBuf;

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}
