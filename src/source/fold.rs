//! Names compared as people mean them: without case, accents, `_`, `-`, dots and blanks.

/// The folded form of a member's name: `E-mail Address` and `email_address` are both `emailaddress`.
pub(super) fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    fold_into(name, &mut folded);
    folded
}

/// As [`fold`], into a buffer that is used again.
pub(super) fn fold_into(name: &str, folded: &mut String) {
    folded.clear();
    for c in name.chars() {
        if c.is_ascii() {
            if c.is_ascii_alphanumeric() {
                folded.push(c.to_ascii_lowercase());
            }
        } else if c.is_alphanumeric() {
            // Lower case first, then the accent: `É` is `é` is `e`. Combining marks are not alphanumeric, so
            // decomposed spelling folds to the same letters.
            folded.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()).map(base));
        }
    }
}

/// Is this the folded form of `name`? Most names differ in their first letter.
pub(super) fn folds_to(name: &str, folded: &str) -> bool {
    if !name.is_ascii() {
        return fold(name) == folded;
    }
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    letters.eq(folded.bytes())
}

/// The letter without its accent, for the letters of the languages our synonyms are in.
fn base(c: char) -> char {
    match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ª' => 'a',
        'ç' => 'c',
        'è' | 'é' | 'ê' | 'ë' => 'e',
        'ì' | 'í' | 'î' | 'ï' => 'i',
        'ñ' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'º' => 'o',
        'ù' | 'ú' | 'û' | 'ü' => 'u',
        'ý' | 'ÿ' => 'y',
        'й' | 'ї' => 'и',
        'і' => 'и',
        'ё' => 'е',
        'ґ' => 'г',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_fold_alike() {
        let check = |names: &[&str]| {
            for name in names {
                assert_eq!(fold(name), fold(names[0]), "{name}");
            }
        };
        check(&["email_address", "E-mail Address", "emailAddress", "EMAIL.ADDRESS"]);
        check(&["teléfono", "Telefono", "tele\u{301}fono", "TELÉFONO"]);
        check(&["Телефон", "телефон"]);
        check(&["повідомлення", "Пові\u{301}домлення"]);
        check(&["descrição", "DESCRICAO", "descric\u{327}a\u{303}o"]);
        for (name, other) in
            [("E-mail Address", "email"), ("Teléfono", "telefono"), ("mail", "e_mail"), ("", "_")]
        {
            for (name, folded) in [(name, fold(name)), (name, fold(other)), (other, fold(name))] {
                assert_eq!(folds_to(name, &folded), fold(name) == folded, "{name} {folded}");
            }
        }
        assert_ne!(fold("name"), fold("username"));
    }
}
