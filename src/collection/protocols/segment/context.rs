//! What an SDK says of an event's surroundings, as properties that begin with `$`.
//!
//! | `context` | property |
//! |---|---|
//! | `page.{url, path, referrer, search, title}` | `$url`, `$path`, `$referrer`, `$search`, `$title` |
//! | `campaign.name`, `campaign.{source, …}` | `$utm_campaign`, `$utm_source`, … |
//! | `os.name`, `os.version` | `$os`, `$os_version` |
//! | `library.name`, `library.version` | `$library`, `$library_version` |
//! | `app.*`, `device.*`, `network.*`, `screen.*`, `location.*`, `referrer.*` | `$app_version`, `$device_type`, … |
//! | `locale`, `timezone`, `userAgent`, `groupId` | `$locale`, `$timezone`, `$user_agent`, `$group_id` |
//! | `ip` | `$ip`, as far as `collection.ip_addresses` lets it |
//! | anything else | `$context.` and its name |

use std::borrow::Cow;
use std::net::IpAddr;

use crate::collection::outcome::Reason;
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::properties::{read_property, reject_repaired};
use crate::collection::protocols::walk::skip_member;
use crate::collection::raw_event::{Field, Property, RawEvent, RawValue, shown_text};
use crate::config::{CollectionConfig, IpAddresses};

/// Depth of the object: that of the message is 1.
const DEPTH: u32 = 2;

/// Members that say nothing of the event: the traits are those of an identify, sent again and again;
/// the rest is between the SDK and its maker.
const PASSED_OVER: [&str; 5] = ["traits", "integrations", "consent", "userAgentData", "__eventOrigin"];

/// Groups whose members' names follow the group's own.
const GROUPS: [&str; 10] =
    ["app", "campaign", "device", "library", "location", "network", "os", "page", "referrer", "screen"];

/// Reads the value of `context`. One that is no object costs nothing but itself.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
) -> Result<(), SyntaxError> {
    if reader.peek()? != Kind::Object {
        return skip_member(reader, event, limits, DEPTH as usize - 1);
    }
    reader.begin_object()?;
    let mut is_first = true;
    while let Some(key) = reader.next_key(is_first)? {
        is_first = false;
        match key.value.as_ref() {
            "ip" => {
                let address = Field::read(reader)?;
                event.properties.extend(ip_property(&address, limits.ip_addresses));
            }
            name if PASSED_OVER.contains(&name) => skip_member(reader, event, limits, DEPTH as usize)?,
            _ if key.is_repaired => {
                reject_repaired(event, &key.value);
                reader.skip()?;
            }
            _ => {
                let from = event.properties.len();
                read_property(reader, event, limits, key.value, DEPTH)?;
                rename(event, from, limits);
            }
        }
    }
    Ok(())
}

/// Gives the properties from that place on their names of ours.
fn rename(event: &mut RawEvent<'_>, from: usize, limits: &CollectionConfig) {
    let limit = limits.key_bytes_max as usize;
    for property in event.properties.split_off(from) {
        let Some(name) = property_name(&property.name) else { continue };
        if name.len() > limit {
            let detail = format!("property {} has {} bytes, {limit} at most", shown_text(&name), name.len());
            event.reject(Reason::KeyLength, detail);
        }
        event.properties.push(Property { name, value: property.value });
    }
}

/// Our name for a member of `context`, whose nested names are joined by dots; `None` for a group
/// without members.
fn property_name(name: &str) -> Option<Cow<'static, str>> {
    let fixed = match name {
        "page.url" => "$url",
        "page.path" => "$path",
        "page.referrer" => "$referrer",
        "page.search" => "$search",
        "page.title" => "$title",
        "campaign.name" => "$utm_campaign",
        "os.name" => "$os",
        "library.name" => "$library",
        "locale" => "$locale",
        "timezone" => "$timezone",
        "userAgent" => "$user_agent",
        "groupId" => "$group_id",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.into());
    }
    let (group, member) = name.split_once('.').unwrap_or((name, ""));
    if !GROUPS.contains(&group) {
        return Some(format!("$context.{name}").into());
    }
    let group = if group == "campaign" { "utm" } else { group };
    (!member.is_empty()).then(|| format!("${group}_{}", in_snake_case(member)).into())
}

/// `adTrackingEnabled` → `ad_tracking_enabled`.
fn in_snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with(['_', '.']) {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

fn ip_property(address: &Field<'_>, policy: IpAddresses) -> Option<Property<'static>> {
    let Field::Text { value, .. } = address else { return None };
    let address: IpAddr = value.trim().parse().ok()?;
    let kept = match policy {
        IpAddresses::Drop => return None,
        IpAddresses::Shorten => shortened(address),
        IpAddresses::Keep => address,
    };
    Some(Property { name: "$ip".into(), value: RawValue::String(kept.to_string().into()) })
}

/// Without what tells one household from its neighbours: the last 8 bits of IPv4, 80 of IPv6.
fn shortened(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (!0 << 80)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_context(json: &str, limits: &CollectionConfig) -> RawEvent<'static> {
        let mut event = RawEvent::default();
        let mut reader = Reader::new(json.to_owned().leak());
        read(&mut reader, &mut event, limits).unwrap();
        reader.end().unwrap();
        event
    }

    #[test]
    fn every_documented_member_has_its_name() {
        for (json, expected) in [
            (
                r#"{"page":{"url":"u","path":"/p","referrer":"r","search":"?s","title":"t","hash":"h"}}"#,
                "$url $path $referrer $search $title $page_hash",
            ),
            (
                r#"{"campaign":{"name":"n","source":"s","medium":"m","term":"t","content":"c"}}"#,
                "$utm_campaign $utm_source $utm_medium $utm_term $utm_content",
            ),
            (
                r#"{"os":{"name":"iOS","version":"8"},"library":{"name":"l","version":"1"}}"#,
                "$os $os_version $library $library_version",
            ),
            (
                r#"{"app":{"name":"a","version":"1","build":"3","namespace":"x"}}"#,
                "$app_name $app_version $app_build $app_namespace",
            ),
            (
                r#"{"device":{"id":"d","advertisingId":"x","adTrackingEnabled":true,"manufacturer":"m","model":"m","name":"n","type":"ios","version":"1"}}"#,
                "$device_id $device_advertising_id $device_ad_tracking_enabled $device_manufacturer $device_model $device_name $device_type $device_version",
            ),
            (
                r#"{"network":{"wifi":true,"carrier":"c"},"screen":{"width":1,"height":2,"density":2.5}}"#,
                "$network_wifi $network_carrier $screen_width $screen_height $screen_density",
            ),
            (
                r#"{"location":{"city":"c","latitude":1.5},"referrer":{"id":"i","type":"t"}}"#,
                "$location_city $location_latitude $referrer_id $referrer_type",
            ),
            (
                r#"{"locale":"en","timezone":"UTC","userAgent":"ua","groupId":"g"}"#,
                "$locale $timezone $user_agent $group_id",
            ),
            (r#"{"experiment":{"name":"x"},"flag":true}"#, "$context.experiment.name $context.flag"),
            (
                r#"{"traits":{"a":1},"consent":{"b":{}},"userAgentData":{"brands":[]},"campaign":{},"page":null}"#,
                "",
            ),
            ("null", ""),
            ("[1]", ""),
        ] {
            let event = read_context(json, &CollectionConfig::default());
            assert_eq!(event.problem, None, "{json}");
            let names: Vec<_> = event.properties.iter().map(|property| property.name.as_ref()).collect();
            assert_eq!(names.join(" "), expected, "{json}");
        }
    }

    #[test]
    fn an_address_is_kept_only_as_far_as_it_may_be() {
        for (address, shortened, kept) in [
            ("\"203.0.113.77\"", Some("203.0.113.0"), Some("203.0.113.77")),
            ("\"2001:db8:1234:5678::1\"", Some("2001:db8:1234::"), Some("2001:db8:1234:5678::1")),
            ("\"::ffff:203.0.113.77\"", Some("203.0.113.0"), Some("::ffff:203.0.113.77")),
            ("\"not an address\"", None, None),
            ("7", None, None),
        ] {
            let json = format!(r#"{{"ip":{address}}}"#);
            for (policy, expected) in
                [(IpAddresses::Drop, None), (IpAddresses::Shorten, shortened), (IpAddresses::Keep, kept)]
            {
                let limits = CollectionConfig { ip_addresses: policy, ..CollectionConfig::default() };
                let event = read_context(&json, &limits);
                let found: Vec<_> = event.properties.into_iter().map(|property| property.value).collect();
                let expected: Vec<_> = expected.map(|ip| RawValue::String(ip.into())).into_iter().collect();
                assert_eq!(found, expected, "{address} {policy:?}");
            }
        }
        assert_eq!(CollectionConfig::default().ip_addresses, IpAddresses::Drop);
    }

    #[test]
    fn limits_hold_inside_of_it() {
        let limits = CollectionConfig { depth_max: 4, key_bytes_max: 15, ..CollectionConfig::default() };
        for (json, reason) in [
            (r#"{"a":{"b":{"c":1}}}"#, None),
            (r#"{"a":{"b":{"c":{}}}}"#, Some(Reason::TooDeep)),
            (r#"{"consent":{"b":{}}}"#, None),
            (r#"{"consent":{"b":{"c":{}}}}"#, Some(Reason::TooDeep)),
            // "$context." counts too.
            (r#"{"abcdef":1}"#, None),
            (r#"{"abcdefg":1}"#, Some(Reason::KeyLength)),
            (r#"{"\ud83c":1}"#, Some(Reason::PropertyName)),
        ] {
            let problem = read_context(json, &limits).problem;
            assert_eq!(problem.map(|problem| problem.reason), reason, "{json}");
        }
    }
}
