//! Decodes pictures as every command does, for `tests/peers/pillow.py`: a line of JSON for each, its pixels in a file of their own.

use la_cli::data::decode::decode;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(out), Some(size)) = (arguments.next(), arguments.next().and_then(|size| size.parse().ok())) else {
        return Err(std::io::Error::other("expected FOLDER SIZE PICTURE..."));
    };
    for (i, path) in arguments.enumerate() {
        let answer = match decode(&std::fs::read(&path)?, size) {
            Ok(picture) => {
                std::fs::write(Path::new(&out).join(i.to_string()), &picture.pixels)?;
                serde_json::json!({"path": path, "width": picture.width, "height": picture.height})
            }
            Err(error) => serde_json::json!({"path": path, "error": error.to_string()}),
        };
        println!("{answer}");
    }
    Ok(())
}
