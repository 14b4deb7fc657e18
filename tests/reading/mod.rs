//! Reads the project's sources for `tests/architecture.rs`: which file is whose, and what in it is code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One source file.
pub struct Source {
    /// From the project's top: `src/gate/mod.rs`.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
    /// `text` with the same lines, where comments and literals are blank.
    pub code: String,
    /// `code` without what only tests compile.
    pub product: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = without_comments_and_literals(text);
        let product = without_tests(&code);
        Source { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    /// `gate` for `src/gate/mod.rs`, `intake` for `src/intake.rs`.
    pub fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let name = inside.split('/').next().unwrap_or_default();
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// How many modules deep it lies: 1 for a room's own file.
    pub fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').filter(|part| *part != "mod.rs").count()
    }

    /// Lines that are not only for tests.
    pub fn product_lines(&self) -> usize {
        let in_tests = self.code.lines().zip(self.product.lines());
        self.text.lines().count() - in_tests.filter(|(code, product)| code != product).count()
    }

    /// The files that `#[cfg(test)] mod name;` brings in: a file and everything below its directory.
    fn test_modules(&self) -> Vec<String> {
        let directory = match self.path.strip_suffix("/mod.rs").or(self.path.strip_suffix("/lib.rs")) {
            Some(directory) => directory,
            None => self.path.strip_suffix(".rs").unwrap_or(&self.path),
        };
        let beside = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut found = Vec::new();
        let mut attributes = Vec::new();
        for line in self.text.lines().map(str::trim) {
            if line.starts_with("#[") {
                attributes.push(line);
                continue;
            }
            let name = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
            let name = name.filter(|_| attributes.contains(&"#[cfg(test)]"));
            if let Some(name) = name.and_then(|rest| rest.strip_suffix(';')) {
                let named =
                    attributes.iter().find_map(|one| one.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
                match named {
                    Some(file) => found.push(format!("{beside}/{file}")),
                    None => found.extend([format!("{directory}/{name}.rs"), format!("{directory}/{name}/")]),
                }
            }
            attributes.clear();
        }
        found
    }
}

/// All Rust files of the project's own directories, in order; test modules of `src` have no product.
pub fn all() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for directory in ["benches", "src", "tests"] {
        collect(top, directory, &mut sources);
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    without_test_files(&mut sources);
    sources
}

/// Empties the product of files that only tests compile.
pub fn without_test_files(sources: &mut [Source]) {
    let modules: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &str| {
        !path.starts_with("src/")
            || modules
                .iter()
                .any(|module| path == module || (module.ends_with('/') && path.starts_with(module)))
    };
    for source in sources.iter_mut().filter(|source| is_test(&source.path)) {
        source.product.clear();
    }
}

fn collect(top: &Path, directory: &str, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(top.join(directory)) else { return };
    for entry in entries {
        let entry = entry.expect("a directory of the project can be read");
        let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(top, &path, sources);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).expect("a source of the project can be read");
            sources.push(Source::new(&path, &text));
        }
    }
}

/// The same lines and columns, with comments, strings and characters blank.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_end(&chars, at) {
            Some(end) => end,
            None => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `None` when there is none.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let ends_at = |from: usize, what: &[char]| {
        let found = rest[from..].windows(what.len()).position(|window| window == what);
        found.map_or(chars.len(), |found| at + from + found + what.len())
    };
    let after_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => Some(at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(ends_at(2, &['*', '/'])),
        ['r', '"' | '#', ..] if !after_name || matches!(chars[at - 1], 'b' | 'c') => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            // `r#name` is a name.
            if rest.get(1 + hashes) != Some(&'"') {
                return None;
            }
            let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            Some(ends_at(2 + hashes, &closing))
        }
        ['"', ..] => Some(at + quoted(rest, '"')),
        ['\'', '\\', ..] => Some(at + quoted(rest, '\'')),
        // A lifetime has no second quote.
        ['\'', _, '\'', ..] => Some(at + 3),
        _ => None,
    }
}

/// The length of a literal that starts with `quote` and has escapes.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The same lines, with every item under `#[cfg(test)]` blank.
fn without_tests(code: &str) -> String {
    let mut product = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        product.push_str(before);
        let end = item_end(item);
        product.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[end..];
    }
    product + rest
}

/// Where the item ends: at its semicolon, or at the brace that closes its first.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    item.len()
}
