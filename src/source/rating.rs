//! Grades that customers give, in numbers, words or stars.

use super::fold::fold;
use minijinja::Value;

/// Words of the five grades, worst first, folded.
const GRADES: [&[&str]; 5] = [
    &[
        "pessimo",
        "terrible",
        "horrible",
        "awful",
        "verybad",
        "muymalo",
        "muymala",
        "muitoruim",
        "ужасно",
        "очень плохо",
        "жахливо",
    ],
    &[
        "ruim",
        "mal",
        "malo",
        "mala",
        "mau",
        "ma",
        "bad",
        "poor",
        "insatisfeito",
        "insatisfecho",
        "insatisfecha",
        "unsatisfied",
        "dissatisfied",
        "negativo",
        "negativa",
        "negative",
        "плохо",
        "погано",
    ],
    &["regular", "neutro", "neutra", "neutral", "medio", "razoavel", "average", "fair", "ok", "нормально"],
    &[
        "bom",
        "boa",
        "bueno",
        "buena",
        "bien",
        "bem",
        "good",
        "satisfeito",
        "satisfecho",
        "satisfecha",
        "satisfied",
        "positivo",
        "positiva",
        "positive",
        "хорошо",
        "добре",
    ],
    &[
        "otimo",
        "otima",
        "excelente",
        "excellent",
        "great",
        "verygood",
        "muybueno",
        "muybuena",
        "muitobom",
        "perfeito",
        "perfecto",
        "отлично",
        "відмінно",
    ],
];

/// The same as templates see it: a whole number is written without a point.
pub(super) fn graded(text: &str) -> Option<Value> {
    let grade = grade(text)?;
    Some(if grade.fract() == 0.0 && grade.abs() < 1e9 {
        Value::from(grade as i64)
    } else {
        Value::from(grade)
    })
}

/// A grade from 1 (worst) to 5, from a number, a word, stars, or `2/5`; numbers keep their value.
pub(super) fn grade(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = text.split('/').next().unwrap_or_default().trim().replace(',', ".");
    if let Ok(number) = number.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let stars = text.chars().filter(|c| matches!(c, '★' | '⭐')).count();
    if stars > 0 {
        return u32::try_from(stars).ok().map(f64::from);
    }
    let folded = fold(text);
    let is_it = |words: &&&[&str]| words.iter().any(|word| fold(word) == folded);
    let grade = GRADES.iter().position(|words| is_it(&words))?;
    u32::try_from(grade + 1).ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_are_numbers_words_or_stars() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(grade(text), expect, "{text}");
        check("5", Some(5.0));
        check(" 2,5 ", Some(2.5));
        check("1/5", Some(1.0));
        check("Péssimo", Some(1.0));
        check("MUY MALO", Some(1.0));
        check("ruim", Some(2.0));
        check("Ótimo", Some(5.0));
        check("⭐⭐", Some(2.0));
        check("perhaps", None);
        check("", None);
    }
}
