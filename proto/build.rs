//! Compiles the contract with protox, so that nobody needs protoc.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "malote/common/v1/meta.proto",
        "malote/lots/v1/lots.proto",
        "malote/pdvs/v1/pdvs.proto",
        "malote/registry/v1/registry.proto",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in files {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [root])?;
    let mut config = prost_build::Config::new();
    // Large fields are slices of the message that they came in, not copies.
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
