//! Ways out: the media interfaces themselves, and the VLANs on top of them with the tags to write.

use super::netlink::Device;
use gateway_common::abi::{LINKS_MAX, Link};
use std::collections::BTreeMap;

/// The table of ways out for `media`, the indices of the interfaces that the program runs on; and for each
/// VLAN that cannot be one, its name and why.
pub(super) fn ways_out(
    devices: &[Device],
    media: &[u32],
) -> (BTreeMap<u32, Link>, Vec<(String, &'static str)>) {
    let mut table: BTreeMap<u32, Link> =
        media.iter().map(|&ifindex| (ifindex, link(devices, ifindex, [0, 0]))).collect();
    let mut refused = Vec::new();
    for device in devices {
        match vlan_way(devices, device, media) {
            Some(Ok(_)) if table.len() >= LINKS_MAX as usize => {
                refused.push((device.name.clone(), "there are more VLANs than the table holds"));
            }
            Some(Ok(link)) => drop(table.insert(device.index, link)),
            Some(Err(why)) => refused.push((device.name.clone(), why)),
            None => {}
        }
    }
    (table, refused)
}

fn link(devices: &[Device], ifindex: u32, vlans: [u16; 2]) -> Link {
    let is_veth = devices.iter().any(|device| device.index == ifindex && device.is_veth);
    Link { ifindex, vlans, transmits_from: if is_veth { 0 } else { ifindex } }
}

/// `None` for what is no VLAN on a media interface.
fn vlan_way(devices: &[Device], device: &Device, media: &[u32]) -> Option<Result<Link, &'static str>> {
    let vlan = device.vlan?;
    if media.contains(&device.index) {
        return None;
    }
    if media.contains(&vlan.parent) {
        return Some(match vlan.service_tag {
            false => Ok(link(devices, vlan.parent, [vlan.id, 0])),
            true => Err("a single tag must be 802.1Q"),
        });
    }
    let outer = devices.iter().find(|outer| outer.index == vlan.parent)?.vlan?;
    if !media.contains(&outer.parent) {
        return None;
    }
    Some(match (outer.service_tag, vlan.service_tag) {
        (true, false) => Ok(link(devices, outer.parent, [outer.id, vlan.id])),
        _ => Err("of two tags the outer must be 802.1ad and the inner 802.1Q"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::netlink::VlanOf;
    use super::*;

    fn device(index: u32, vlan: Option<(u32, u16, bool)>) -> Device {
        let vlan = vlan.map(|(parent, id, service_tag)| VlanOf { parent, id, service_tag });
        let name = format!("dev{index}");
        Device { index, name, up: true, receive_queues: 1, vlan, is_veth: false, xdp: None }
    }

    #[test]
    fn vlans_and_double_tagged_vlans_lead_to_the_interface_below() {
        let devices = [
            device(2, None),
            device(3, Some((2, 100, false))),
            device(4, Some((2, 200, true))),
            device(5, Some((4, 300, false))),
            device(6, None),
            device(7, Some((6, 400, false))),
            device(8, Some((3, 500, false))),
        ];
        let (table, refused) = ways_out(&devices, &[2]);
        assert_eq!(
            table.into_iter().collect::<Vec<_>>(),
            [
                (2, Link { ifindex: 2, vlans: [0, 0], transmits_from: 2 }),
                (3, Link { ifindex: 2, vlans: [100, 0], transmits_from: 2 }),
                (5, Link { ifindex: 2, vlans: [200, 300], transmits_from: 2 }),
            ]
        );
        let names: Vec<_> = refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["dev4", "dev8"]);
    }

    #[test]
    fn what_came_in_by_a_veth_is_redirected_out_of_it_again() {
        let veth = Device { is_veth: true, ..device(2, None) };
        let (table, _) = ways_out(&[veth, device(3, Some((2, 100, false)))], &[2]);
        assert_eq!(
            table.values().map(|link| (link.ifindex, link.transmits_from)).collect::<Vec<_>>(),
            [(2, 0); 2]
        );
    }
}
