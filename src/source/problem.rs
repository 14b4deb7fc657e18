//! What is wrong with a source as it is written, in a form the configuration can point at.

use std::ops::Range;

/// Which of the stacked tables a key comes from; later wins key by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// What deskspool does where nobody says otherwise.
    Builtin,
    /// The admin's `[ticket]` table.
    TicketDefaults,
    /// The shipped preset.
    Preset,
    /// The admin's `[source.x]` table.
    Admin,
}

/// Where a key's effective value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose table.
    pub layer: Layer,
    /// Bytes of that layer's file, where known.
    pub at: Option<Range<usize>>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// Key below the layer's table: `keep_if`, `ticket.subject`, `rule[2].when` (rules count from 1). For
    /// [`Layer::TicketDefaults`] too it begins with `ticket.`, which there is the whole key.
    pub key: String,
    /// What is wrong: `uses "evnt", which does not exist`.
    pub what: String,
    /// What is allowed, or what to do.
    pub help: Option<String>,
    /// The place inside a template or an expression.
    pub within: Option<Within>,
}

/// A place inside a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// Line of the template, from 1.
    pub line: usize,
    /// Character of that line, from 1.
    pub column: usize,
    /// That line.
    pub text: String,
}

impl Within {
    /// The place `offset` bytes into `template`.
    pub(super) fn at(template: &str, offset: usize) -> Within {
        let mut offset = offset.min(template.len());
        while !template.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &template[..offset];
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        Within {
            line: before.matches('\n').count() + 1,
            column: template[begin..offset].chars().count() + 1,
            text: template[begin..].lines().next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let check = |offset: usize, expect: (usize, usize, &str)| {
            let within = Within::at("ab\nñ{{ x }\n", offset);
            assert_eq!((within.line, within.column, within.text.as_str()), expect, "offset {offset}");
        };
        check(0, (1, 1, "ab"));
        check(3, (2, 1, "ñ{{ x }"));
        check(5, (2, 2, "ñ{{ x }"));
        check(4, (2, 1, "ñ{{ x }"));
        check(999, (3, 1, ""));
    }
}
