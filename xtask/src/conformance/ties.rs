//! Which test shows which statements: read from the comments above the tests.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Members of the workspace that have tests of the gateway, by name and directory.
const PACKAGES: [(&str, &str); 3] = [
    ("gateway-common", "gateway-common"),
    ("gateway-userspace", "gateway-userspace"),
    ("gateway-tests", "tests"),
];

/// A test with the statements it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tie {
    pub(super) package: &'static str,
    /// From the root of the repository.
    pub(super) file: PathBuf,
    /// Of the comment.
    pub(super) line: usize,
    /// Name of the test's function.
    pub(super) function: String,
    pub(super) statements: Vec<u16>,
}

impl Tie {
    /// Where the comment stands.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// All ties of the workspace.
///
/// # Errors
/// A file cannot be read, or a comment that begins like a tie is none.
pub(super) fn read(root: &Path) -> Result<Vec<Tie>> {
    let mut ties = Vec::new();
    for (package, directory) in PACKAGES {
        let mut files = Vec::new();
        sources(&root.join(directory), &mut files)?;
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let file = file.strip_prefix(root).unwrap_or(&file);
            ties.extend(in_file(package, file, &text)?);
        }
    }
    Ok(ties)
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn in_file(package: &'static str, file: &Path, text: &str) -> Result<Vec<Tie>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut ties = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(numbers) = line.strip_prefix("// Statement") else { continue };
        let place = || format!("{}:{}", file.display(), index + 1);
        let Some(statements) = numbers_of(numbers) else {
            bail!("{}: write `// Statement 71.` or `// Statements 71, 73.`", place());
        };
        let mut below = lines.iter().skip(index + 1);
        if below.next() != Some(&"#[test]") {
            bail!("{}: #[test] has to be in the line below", place());
        }
        let function = below.find(|line| !line.starts_with("#[")).and_then(|line| function_name(line));
        let Some(function) = function else { bail!("{}: no function below #[test]", place()) };
        let function = function.to_owned();
        ties.push(Tie { package, file: file.to_owned(), line: index + 1, function, statements });
    }
    Ok(ties)
}

/// ` 71.` or `s 71, 73.`
fn numbers_of(text: &str) -> Option<Vec<u16>> {
    let (several, list) = match text.strip_prefix("s ") {
        Some(list) => (true, list),
        None => (false, text.strip_prefix(' ')?),
    };
    let numbers: Option<Vec<u16>> =
        list.strip_suffix('.')?.split(", ").map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| (numbers.len() > 1) == several)
}

fn function_name(line: &str) -> Option<&str> {
    line.split_once("fn ")?.1.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ties(text: &str) -> Result<Vec<Tie>> {
        in_file("gateway-tests", Path::new("tests/call/a.rs"), text)
    }

    #[test]
    fn comments_above_tests_tie_them() {
        let text = "// Statement 7.\n#[test]\nfn one() {\n    // Statements 71, 73.\n    #[test]\n    #[ignore]\n    fn two<T>() {";
        let read = ties(text).unwrap();
        let read: Vec<_> =
            read.iter().map(|tie| (tie.function.as_str(), tie.line, &tie.statements[..])).collect();
        assert_eq!(read, [("one", 1, &[7][..]), ("two", 4, &[71, 73][..])]);
    }

    #[test]
    fn what_only_looks_like_a_tie_is_refused_with_its_line() {
        for text in ["// Statement 7", "// Statements 7.", "// Statement 7, 8.", "// Statement x."] {
            let fault = ties(&format!("{text}\n#[test]\nfn one() {{")).unwrap_err().to_string();
            assert!(fault.starts_with("tests/call/a.rs:1:"), "{text}: {fault}");
        }
        assert!(ties("// Statement 7.\n\n#[test]\nfn one() {").is_err());
    }
}
