//! Messages of many platforms, read as an agent would.

use super::*;
use crate::clock::zone::Zone;

fn zones(shown: &str, written: &str) -> Zones {
    Zones { shown: Zone::find(shown).unwrap(), written: Zone::find(written).unwrap() }
}

fn told(json: &str, as_html: bool) -> Told {
    let voices =
        Voices { customer: "Jorge".to_owned(), agent: "Camila Rojas".to_owned(), bot: String::new() };
    let value = to_template(&serde_json::from_str(json).unwrap());
    tell(&value, &voices, &zones("UTC", "-05:00"), as_html)
}

fn check(json: &str, expect: &str) {
    assert_eq!(told(json, false).shown, expect, "{json}");
}

#[test]
fn who_when_and_what() {
    check(
        r#"[{"created_at":"2025-11-20 18:03:11","incoming":true,"type":"TEXT","body":"no enciende","caption":null,"location":null},
            {"created_at":"2025-11-20 19:05:40","incoming":false,"type":"TEXT","body":"¿una foto?"},
            {"created_at":"2025-11-20 19:07:02","incoming":true,"type":"IMAGE","body":"https://m.example/f.jpg","caption":"así llegó"}]"#,
        "2025-11-20, times in UTC\n23:03 Jorge: no enciende\n2025-11-21\n00:05 Camila Rojas: ¿una foto?\n\
         00:07 Jorge: [image] https://m.example/f.jpg\nasí llegó",
    );
    check(
        r#"[{"de":"atendente","hora":"09:16","texto":"Bom dia"},{"de":"cliente","hora":"09:20","texto":"Resolvido"}]"#,
        "09:16 Camila Rojas: Bom dia\n09:20 Jorge: Resolvido",
    );
    check(
        r#"[{"sender":{"name":"Ana"},"content":"hi","message_type":0},{"role":"assistant","content":"hello"}]"#,
        "Ana: hi\nBot: hello",
    );
    check(r#"["one",null,"{{x}}","two"]"#, "one\ntwo");
    check(r#""[{\"role\":\"user\",\"text\":\"hi\"}]""#, "Jorge: hi");
    check(r#""User: a\nBot: b""#, "User: a\nBot: b");
    check("[]", "");
    check("null", "");
}

#[test]
fn places_buttons_cards_and_files() {
    check(
        r#"[{"incoming":true,"type":"LOCATION","body":"","location":{"latitude":6.2442,"longitude":-75.5812,"address":"Parque Lleras"}}]"#,
        "Jorge: [location: Parque Lleras] 6.2442, -75.5812 https://www.google.com/maps?q=6.2442,-75.5812",
    );
    check(
        r#"[{"type":"choice","payload":{"text":"¿Cuál?","options":[{"label":"A","value":"1"},{"label":"B","value":"2"}]},"direction":"outgoing"}]"#,
        "Camila Rojas: ¿Cuál?\n[A] [B]",
    );
    check(
        r#"[{"type":"carousel","direction":"outgoing","payload":{"items":[{"title":"Mesa","subtitle":"roble","imageUrl":"https://m.example/1.png",
            "actions":[{"label":"Comprar","action":"postback"}]},{"title":"Silla"}]}}]"#,
        "Camila Rojas: Mesa\nroble\n[Comprar]\n[image] https://m.example/1.png\nSilla",
    );
    check(
        r#"[{"sender":"Ana","attachments":[{"type":"image","payload":{"url":"https://m.example/2.png"}}]}]"#,
        "Ana: [image] https://m.example/2.png",
    );
    check(r#"[{"from":"Ana","type":"sticker","sticker":{"id":"7"}}]"#, "Ana: [sticker]");
    check(
        r#"[{"from":"Ana","type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":"y","title":"Sí"}}}]"#,
        "Ana: Sí",
    );
    check(
        r#"[{"incoming":false,"type":"TEXT","body":"Promo","broadcasted":true}]"#,
        "Camila Rojas: [broadcast]\nPromo",
    );
}

#[test]
fn customers_markup_arrives_as_text() {
    let html =
        told(r#"[{"sender":"<b>A</b>","time":"<i>","text":"<script>x</script>\nsee https://a.b/c"}]"#, true)
            .shown;
    assert_eq!(
        html,
        "&lt;i&gt; <b>&lt;b&gt;A&lt;/b&gt;:</b> &lt;script&gt;x&lt;/script&gt;<br>\nsee https://a.b/c"
    );
    let link = told(r#"[{"sender":"A","type":"audio","url":"https://a.b/\"><x>"}]"#, true).shown;
    assert!(link.contains("<a href=\"https://a.b/&quot;&gt;&lt;x&gt;\">") && !link.contains("<x>"), "{link}");
}

#[test]
fn a_long_one_is_cut_in_its_middle_and_kept_whole() {
    let many: Vec<Json> = (0..1200)
        .map(|n| serde_json::json!({"incoming": n % 2 == 0, "body": format!("mensaje {n} {}", "relleno ".repeat(20))}))
        .collect();
    let told = told(&Json::Array(many).to_string(), true);
    let whole = told.whole.expect("it is long");
    assert!(told.shown.len() < SHOWN_MAX_BYTES + 8 * 1024, "{}", told.shown.len());
    for text in [
        "mensaje 0 ",
        "mensaje 1199 ",
        "[cut here: ",
        " of 1200 lines are left out, transcript.txt has them all]",
    ] {
        assert!(told.shown.contains(text), "{text}");
    }
    assert_eq!(whole.lines().count(), 1200);
    assert!(whole.lines().nth(600).is_some_and(|line| line.starts_with("Jorge: mensaje 600 ")));
}

#[test]
fn one_enormous_message_is_cut_too() {
    let told =
        told(&serde_json::json!([{"text": "línea ".repeat(20_000)}, {"text": "end"}]).to_string(), true);
    assert!(
        told.shown.len() < 2 * SHOWN_MAX_BYTES
            && told.shown.contains("[cut here")
            && told.shown.ends_with("end")
    );
    assert!(told.whole.expect("it is long").len() > 100_000);
}
