//! The files that are kept, and the records of the past, which no reader may mind either.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

static CORPUS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("hostile/corpus"), &mut files);
    collect(&root.join("../libs/proto/tests/golden"), &mut files);
    files.sort();
    files
});

/// Name and content of every file, sorted.
pub(crate) fn corpus() -> &'static [(String, Vec<u8>)] {
    &CORPUS
}

fn collect(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder of the corpus") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = fs::read(&path).expect("a file of the corpus");
            files.push((path.display().to_string(), bytes));
        }
    }
}
