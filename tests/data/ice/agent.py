"""A full ICE agent (Debian's python3-aioice) in place of a client in media bypass: it is controlling, checks the one
candidate that it is given, nominates it, sends RTP over it and counts what comes back.

Writes what it is to `local.json`, waits for what the far end is in `remote.json`, and ends with `result.json`, all in the
directory that is its first argument; the second is the number of packets that it sends."""

import asyncio
import json
import pathlib
import sys

import aioice

PACKET_TIME = 0.02

directory = pathlib.Path(sys.argv[1])
packets = int(sys.argv[2])


def write(name, value):
    # Whole or not at all: somebody waits for the file.
    part = directory / (name + ".part")
    part.write_text(json.dumps(value))
    part.rename(directory / name)


async def hear(connection, heard):
    while True:
        packet = await connection.recv()
        heard.append(int.from_bytes(packet[2:4], "big"))


async def main():
    connection = aioice.Connection(ice_controlling=True, components=1)
    await connection.gather_candidates()
    candidates = [candidate for candidate in connection.local_candidates if ":" not in candidate.host]
    write(
        "local.json",
        {
            "ufrag": connection.local_username,
            "password": connection.local_password,
            "candidates": [candidate.to_sdp() for candidate in candidates],
            "host": candidates[0].host,
            "port": candidates[0].port,
        },
    )
    while not (directory / "remote.json").exists():
        await asyncio.sleep(0.02)
    remote = json.loads((directory / "remote.json").read_text())
    connection.remote_username = remote["ufrag"]
    connection.remote_password = remote["password"]
    connection.remote_is_lite = True
    await connection.add_remote_candidate(aioice.Candidate.from_sdp(remote["candidate"]))
    await connection.add_remote_candidate(None)
    await connection.connect()
    write("connected.json", {})

    heard = []
    hearing = asyncio.ensure_future(hear(connection, heard))
    for number in range(packets):
        header = bytes([0x80, 0]) + number.to_bytes(2, "big") + (number * 160).to_bytes(4, "big") + b"\x00\x00\x00\x07"
        await connection.send(header + bytes(160))
        await asyncio.sleep(PACKET_TIME)
    await asyncio.sleep(0.5)
    hearing.cancel()
    write("result.json", {"sent": packets, "heard": heard})
    await connection.close()


asyncio.run(main())
