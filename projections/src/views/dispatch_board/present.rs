//! What a card says when it is read: ages and minutes, and its alerts by how soon they do harm.

use cnc_domain::kernel::{Reading, Timestamp};
use serde_json::{Map, Value, json};

use super::super::{minutes_between, time};

pub(super) fn present(mut card: Value, reading: &Reading<'_>) -> Value {
    let now = reading.now;
    let minutes_since = |pointer: &str| time(&card, pointer).map(|since| minutes_between(since, now).max(0));
    let crew = card.get("crew").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let recommended = card.get("recommended_crew").and_then(Value::as_u64).unwrap_or(0);
    let elapsed = minutes_since("/course/departed_at");
    let estimated = card.get("estimated_minutes").and_then(Value::as_i64);
    let position_age = time(&card, "/last_position/at").map(|at| (now.micros() - at.micros()).max(0) / 1_000_000);
    let shown = [
        ("minutes_in_stage", minutes_since("/stage_since").into()),
        ("crew_missing", recommended.saturating_sub(crew).into()),
        ("elapsed_minutes", elapsed.into()),
        ("minutes_over_estimate", elapsed.zip(estimated).map(|(elapsed, estimated)| elapsed - estimated).into()),
        ("position_age_seconds", position_age.into()),
        ("eta", eta(&card)),
        ("alerts", ranked(card.get("alerts"), now)),
    ];
    if let Some(card) = card.as_object_mut() {
        card.extend(shown.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    card
}

pub(super) fn describe(schema: &mut Value) {
    let number = |about: &str| json!({ "type": ["integer", "null"], "description": about });
    let card = &mut schema["properties"];
    card["minutes_in_stage"] = number("Since it entered its stage.");
    card["crew_missing"] = number("How many fewer people are assigned than are recommended.");
    card["elapsed_minutes"] = number("Since it departed.");
    card["minutes_over_estimate"] = number("By how much that is more than was estimated.");
    card["position_age_seconds"] = number("How old the last position is.");
    card["eta"] = json!({ "type": ["object", "null"], "description": "The stop that the truck drives to or will.",
        "properties": { "stop": { "type": "string", "format": "uuid" },
            "expected_at": { "type": ["string", "null"], "format": "date-time", "description": "When it is expected there." },
            "window": { "type": ["object", "null"], "description": "What was promised." },
            "minutes_late": number("How far that is from what was promised.") } });
    let mut alert = card["alerts"]["additionalProperties"].take();
    alert["properties"]["alert"] = json!({ "type": "string", "format": "uuid", "description": "Which alert." });
    alert["properties"]["minutes_to_harm"] = number("Until harm is done; negative where it is.");
    card["alerts"] = json!({ "type": "array", "items": alert, "description": "The sooner harm is done, the earlier." });
}

/// The stop that the truck drives to or will, when it is expected there, and how far that is from what was promised.
fn eta(card: &Value) -> Value {
    let stops = card.pointer("/course/stops").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is = |state: &'static str| move |stop: &&Value| stop.get("state").is_some_and(|found| found == state);
    let driven_to = stops.iter().find(is("en_route"));
    let Some(stop) = driven_to.or_else(|| stops.iter().find(is("ahead"))) else { return Value::Null };
    let delayed = card.get("delayed_minutes").and_then(Value::as_i64).unwrap_or(0);
    let promised = time(stop, "/window/start").zip(time(stop, "/window/end"));
    let expected = match (driven_to, time(card, "/expected_at")) {
        (Some(_), Some(expected)) => Some(expected),
        // Without the crew's word it is what was promised, and the delays that they told of.
        _ => promised.map(|(start, _)| Timestamp::from_micros(start.micros() + delayed * 60_000_000)),
    };
    json!({
        "stop": stop.get("stop"),
        "expected_at": expected,
        "window": stop.get("window"),
        "minutes_late": expected.zip(promised).map(|(expected, (_, end))| minutes_between(end, expected).max(0)),
    })
}

/// Alerts as a list: the sooner harm is done, the earlier; those that are put off come last.
fn ranked(alerts: Option<&Value>, now: Timestamp) -> Value {
    let mut ranked: Vec<(bool, i64, Value)> = alerts
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(id, alert)| {
            let minutes = time(alert, "/due").map_or(i64::MAX, |due| minutes_between(now, due));
            let put_off = time(alert, "/snoozed_until").is_some_and(|until| until > now);
            let mut shown = Map::from_iter([("alert".to_owned(), Value::from(id.as_str()))]);
            shown.extend(alert.as_object().cloned().unwrap_or_default());
            shown.insert("minutes_to_harm".into(), minutes.into());
            (put_off, minutes, shown.into())
        })
        .collect();
    ranked.sort_by_key(|(put_off, minutes, _)| (*put_off, *minutes));
    ranked.into_iter().map(|(_, _, alert)| alert).collect()
}
