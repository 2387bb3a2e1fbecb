//! Prints the path of a protobuf compiler, for `PROTOC`. Built and run before the rest of this workspace.

use std::error::Error;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn Error>> {
    let path = protoc_bin_vendored::protoc_bin_path()?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}
