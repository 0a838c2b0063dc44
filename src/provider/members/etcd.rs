//! The etcd beside each member, by its JSON gateway: who has a vote, and whose is taken away.
//!
//! Source: etcd 3.4's `rpc.proto`, service `Cluster`, and its documentation, "gRPC gateway". Numbers of 64 bits are strings.

use serde::Deserialize;
use serde_json::json;

use super::{ANSWER, Door, Names, first};
use crate::error::{Doing as _, Error, Result};
use crate::fleet::census::InstanceId;
use crate::provider::Outcome;

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    members: Vec<Member>,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    #[serde(rename = "ID")]
    id: String,
    /// Empty until it has started once.
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peers: Vec<String>,
    /// It copies, and has no vote.
    #[serde(rename = "isLearner", default)]
    learns: bool,
}

/// Asks who the members are.
pub(super) fn members(doors: &[Door]) -> Result<Vec<Member>> {
    let list: List = first(doors, |door| {
        let at = door
            .etcd
            .ok_or_else(|| Error::failed(format!("the port of etcd on {} leads nowhere", door.id)))?;
        let text = call(at, "list", &json!({}))?;
        serde_json::from_str(&text).doing(|| "reading the members of etcd")
    })?;
    Ok(list.members)
}

fn call(at: std::net::SocketAddr, path: &str, body: &serde_json::Value) -> Result<String> {
    let (status, text) = super::json(at, None, &format!("/v3/cluster/member/{path}"), Some(body), ANSWER)?;
    if status == 200 {
        return Ok(text);
    }
    // The gateway's words: `{"error": "…", "code": …}`.
    let words = serde_json::from_str::<serde_json::Value>(&text).ok();
    let words = words.and_then(|words| Some(words.get("error")?.as_str()?.to_owned()));
    Err(Error::failed(format!("etcd answered with HTTP status {status}: {}", words.unwrap_or(text))))
}

impl Member {
    /// Returns its instance, by name or by address.
    fn instance(&self, doors: &[Door], names: &dyn Names) -> Option<InstanceId> {
        let address = || {
            let peer = self.peers.first()?;
            let host = peer.split_once("://")?.1.rsplit_once(':')?.0;
            host.trim_matches(['[', ']']).parse().ok()
        };
        let is = |door: &&Door| door.id.0 == self.name || door.known_as.as_ref() == Some(&self.name);
        if let Some(door) = doors.iter().find(is) {
            return Some(door.id.clone());
        }
        if let Some(id) = names.known_as(&self.name) {
            return Some(id);
        }
        if !self.name.is_empty() {
            return Some(InstanceId(self.name.clone()));
        }
        let address = address()?;
        let at = doors.iter().find(|door| door.inside == Some(address)).map(|door| door.id.clone());
        at.or_else(|| names.at(address))
    }
}

/// Returns who is registered, and who of these has a vote, by instance.
pub(super) fn named(
    members: &[Member],
    doors: &[Door],
    names: &dyn Names,
) -> (Vec<InstanceId>, Vec<InstanceId>) {
    let of = |wanted: &dyn Fn(&Member) -> bool| {
        let found = members.iter().filter(|member| wanted(member));
        let mut found: Vec<_> = found.filter_map(|member| member.instance(doors, names)).collect();
        found.sort();
        found
    };
    (of(&|_| true), of(&|member| !member.learns))
}

/// Removes a member, asking another one than itself.
pub(super) fn remove(doors: &[Door], names: &dyn Names, id: &InstanceId) -> Result<Outcome> {
    let others: Vec<_> = doors.iter().filter(|door| door.id != *id).cloned().collect();
    let list = members(&others)?;
    let Some(member) = list.iter().find(|member| member.instance(doors, names).as_ref() == Some(id)) else {
        return Ok(Outcome::AlreadyDone);
    };
    first(&others, |door| {
        let at = door
            .etcd
            .ok_or_else(|| Error::failed(format!("the port of etcd on {} leads nowhere", door.id)))?;
        call(at, "remove", &json!({ "ID": member.id }))
    })?;
    Ok(Outcome::Applied)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    struct Last;

    impl Names for Last {
        fn at(&self, address: IpAddr) -> Option<InstanceId> {
            let IpAddr::V4(address) = address else { return None };
            Some(InstanceId::new("db", u64::from(address.octets()[3]) - 1))
        }
    }

    #[test]
    fn who_never_started_is_known_by_its_address() {
        let text = r#"{"header":{"cluster_id":"1"},"members":[
            {"ID":"11","name":"db-1","peerURLs":["http://10.77.0.2:2380"],"clientURLs":["http://10.77.0.2:2379"]},
            {"ID":"12","name":"db-2","peerURLs":["http://10.77.0.3:2380"]},
            {"ID":"14","peerURLs":["http://10.77.0.5:2380"],"isLearner":true}]}"#;
        let list: List = serde_json::from_str(text).expect("an answer");
        let ids =
            |numbers: &[u64]| numbers.iter().map(|number| InstanceId::new("db", *number)).collect::<Vec<_>>();
        assert_eq!(named(&list.members, &[], &Last), (ids(&[1, 2, 4]), ids(&[1, 2])));
    }
}
