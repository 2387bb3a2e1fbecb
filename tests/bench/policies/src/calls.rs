//! Calls of an airline's agent, some of which match rules and some none.

use std::collections::BTreeMap;

use runledger_domain::ids::{AgentId, Name, RunId};
use runledger_domain::json::Json;
use runledger_domain::policy::Subject;

pub struct Call {
    pub tool: Name,
    pub agent: AgentId,
    pub run: RunId,
    pub arguments: Json,
    pub labels: BTreeMap<Name, String>,
}

impl Call {
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            tool: &self.tool,
            agent: &self.agent,
            action_hint: "",
            run: &self.run,
            model: "",
            arguments: Some(&self.arguments),
            labels: &self.labels,
        }
    }
}

const CALLS: &[(&str, &str)] = &[
    (
        "book_reservation",
        r#"{"user_id":"mia_li_3668","origin":"JFK","destination":"SEA","flight_type":"one_way","cabin":"economy","flights":[{"flight_number":"HAT136","date":"2024-05-20"},{"flight_number":"HAT039","date":"2024-05-20"}],"passengers":[{"first_name":"Mia","last_name":"Li","dob":"1990-04-05"}],"payment":{"method":"certificate","amount":250},"total":255,"insurance":"no"}"#,
    ),
    (
        "book_reservation",
        r#"{"user_id":"omar_rossi_1241","origin":"LGA","destination":"MIA","flight_type":"round_trip","cabin":"business","flights":[{"flight_number":"HAT110","date":"2024-05-21"}],"payment":{"method":"gift_card","amount":4100},"total":4100,"insurance":"yes"}"#,
    ),
    (
        "cancel_reservation",
        r#"{"reservation_id":"EHGLP3","reason":"change of plan","total":87}"#,
    ),
    ("get_user_details", r#"{"user_id":"mia_li_3668"}"#),
    (
        "search_direct_flight",
        r#"{"origin":"JFK","destination":"SEA","date":"2024-05-20"}"#,
    ),
    (
        "update_reservation_flights",
        r#"{"reservation_id":"VA5SGQ","cabin":"economy","flights":[{"flight_number":"HAT169","date":"2024-05-17"}],"payment":{"method":"credit_card","amount":90},"total":90}"#,
    ),
    (
        "run_shell",
        r#"{"command":"ls -la /srv/data","timeout":30}"#,
    ),
    (
        "write_file",
        r#"{"path":"/srv/app/config.yaml","content":"replicas: 3\nimage: web:12\n"}"#,
    ),
];

pub fn all() -> Vec<Call> {
    CALLS
        .iter()
        .map(|(tool, arguments)| Call {
            tool: tool.parse().expect("a name"),
            agent: "airline-7".parse().expect("an id"),
            run: "run-1".parse().expect("an id"),
            arguments: Json::parse(arguments).expect("JSON"),
            labels: BTreeMap::from([("env".parse().expect("a name"), "test".into())]),
        })
        .collect()
}
