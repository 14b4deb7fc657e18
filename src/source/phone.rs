//! Phone numbers as Freshdesk finds contacts by them: E.164 where that can be known.

/// How a country writes its national numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Country {
    /// ISO 3166 letters.
    pub code: &'static str,
    /// Without `+`.
    calling: &'static str,
    /// Dialled before a national number, and dropped in E.164; empty where there is none.
    trunk: &'static str,
    /// Fewest and most digits of a national number without the trunk prefix.
    lengths: (usize, usize),
}

const fn country(
    code: &'static str,
    calling: &'static str,
    trunk: &'static str,
    lengths: (usize, usize),
) -> Country {
    Country { code, calling, trunk, lengths }
}

/// The Americas, and the countries whose platforms and customers we have met (ITU-T E.164 assignments).
const COUNTRIES: [Country; 43] = [
    country("AE", "971", "0", (8, 9)),
    country("AR", "54", "0", (10, 11)),
    country("AT", "43", "0", (7, 13)),
    country("BO", "591", "0", (8, 8)),
    country("BR", "55", "0", (10, 11)),
    country("CA", "1", "1", (10, 10)),
    country("CH", "41", "0", (9, 9)),
    country("CL", "56", "", (9, 9)),
    country("CO", "57", "", (10, 10)),
    country("CR", "506", "", (8, 8)),
    country("CU", "53", "0", (8, 8)),
    country("DE", "49", "0", (7, 11)),
    country("DK", "45", "", (8, 8)),
    country("DO", "1", "1", (10, 10)),
    country("EC", "593", "0", (8, 9)),
    country("ES", "34", "", (9, 9)),
    country("FR", "33", "0", (9, 9)),
    country("GB", "44", "0", (9, 10)),
    country("GT", "502", "", (8, 8)),
    country("HN", "504", "", (8, 8)),
    country("IE", "353", "0", (7, 9)),
    country("IL", "972", "0", (8, 9)),
    country("IN", "91", "0", (10, 10)),
    country("IT", "39", "", (8, 11)),
    country("KZ", "7", "8", (10, 10)),
    country("MX", "52", "01", (10, 10)),
    country("NI", "505", "", (8, 8)),
    country("NL", "31", "0", (9, 9)),
    country("PA", "507", "", (7, 8)),
    country("PE", "51", "0", (8, 9)),
    country("PL", "48", "", (9, 9)),
    country("PR", "1", "1", (10, 10)),
    country("PT", "351", "", (9, 9)),
    country("PY", "595", "0", (9, 9)),
    country("RO", "40", "0", (9, 9)),
    country("RU", "7", "8", (10, 10)),
    country("SE", "46", "0", (7, 9)),
    country("SV", "503", "", (8, 8)),
    country("TR", "90", "0", (10, 10)),
    country("UA", "380", "0", (9, 9)),
    country("US", "1", "1", (10, 10)),
    country("UY", "598", "0", (8, 8)),
    country("VE", "58", "0", (10, 10)),
];

/// The country of two letters, in either case.
pub(super) fn find_country(code: &str) -> Option<&'static Country> {
    COUNTRIES.iter().find(|country| country.code.eq_ignore_ascii_case(code.trim()))
}

/// All codes, for a finding that must name them.
pub(super) fn codes() -> String {
    COUNTRIES.iter().map(|country| country.code).collect::<Vec<_>>().join(", ")
}

/// A number without its decoration; `None` when it is none. With `+` it stays international, `00` means `+`,
/// a national number is completed where the country is known, and what remains keeps the digits it came with.
pub(super) fn normalise(text: &str, country: Option<&Country>) -> Option<String> {
    let text = text.trim();
    let text =
        ["tel:", "whatsapp:", "sip:"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let number = without_extension(text);
    if number.chars().any(char::is_alphabetic) || number.contains('@') {
        return None;
    }
    let is_international = number.trim_start_matches(['(', ' ']).starts_with('+');
    // `+44 (0)20 …`: the zero in brackets is for callers inside the country.
    let number = if is_international { number.replace("(0)", "") } else { number.to_owned() };
    let digits: String =
        number.chars().filter_map(|c| c.to_digit(10)).filter_map(|d| char::from_digit(d, 10)).collect();
    let (is_international, digits) = match digits.strip_prefix("00") {
        Some(rest) if !is_international && rest.len() >= 8 => (true, rest.to_owned()),
        _ => (is_international, digits),
    };
    if !(6..=15).contains(&digits.len()) {
        return None;
    }
    if is_international {
        return Some(format!("+{digits}"));
    }
    Some(country.and_then(|country| complete(&digits, country)).unwrap_or(digits))
}

/// `555 0123 ext. 4` and `555-0123 x4`: the extension is not part of the number.
fn without_extension(text: &str) -> &str {
    let lower = text.to_lowercase();
    let cut = ["ext", "ramal", "anexo", "доб", " x", ";"].iter().filter_map(|word| lower.find(word)).min();
    cut.and_then(|cut| text.get(..cut)).unwrap_or(text)
}

fn complete(digits: &str, country: &Country) -> Option<String> {
    let fits = |national: &str| (country.lengths.0..=country.lengths.1).contains(&national.len());
    if digits.strip_prefix(country.calling).is_some_and(fits) && !fits(digits) {
        return Some(format!("+{digits}"));
    }
    let national = match digits.strip_prefix(country.trunk) {
        Some(rest) if !country.trunk.is_empty() && fits(rest) => rest,
        _ => digits,
    };
    fits(national).then(|| format!("+{}{national}", country.calling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_their_decoration() {
        let check = |text: &str, country: &str, expect: Option<&str>| {
            assert_eq!(normalise(text, find_country(country)).as_deref(), expect, "{text} {country}");
        };
        check("+1 (415) 555-0123", "", Some("+14155550123"));
        check("0034 911 222 333", "", Some("+34911222333"));
        check("380671112233", "", Some("380671112233"));
        check("380671112233", "UA", Some("+380671112233"));
        check("067 111 22 33", "UA", Some("+380671112233"));
        check("300 111 2233", "CO", Some("+573001112233"));
        check("573001112233", "co", Some("+573001112233"));
        check("(11) 98765-4321", "BR", Some("+5511987654321"));
        check("5511987654321", "BR", Some("+5511987654321"));
        check("8 912 345-67-89", "RU", Some("+79123456789"));
        check("+44 (0)20 7946 0958", "", Some("+442079460958"));
        check("whatsapp:+573001112233", "", Some("+573001112233"));
        check("555 0123 ext. 4", "", Some("5550123"));
        check("٠٥٠١٢٣٤٥٦٧", "", None);
        check("12", "", None);
        check("call me", "", None);
        check("ana@example.com", "", None);
        check("1234567890123456", "", None);
    }

    #[test]
    fn countries_are_in_order() {
        assert!(COUNTRIES.is_sorted_by_key(|country| country.code));
        assert!(find_country("XX").is_none());
    }
}
