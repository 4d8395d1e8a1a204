"""What publishing does to the channels: from when on which version holds."""

from tests.factory import make_profile, make_sensor, rows


async def mapping(rig, sensor):
    """(signal, version, whether it holds from the beginning, whether for ever), in the order of application."""
    query = """SELECT signal, version, lower_inf(valid), upper_inf(valid)
        FROM channel_profiles JOIN channels USING (channel_id) JOIN conversion_profiles USING (conversion_profile_id)
        WHERE channels.sensor_id = %s ORDER BY channel_profile_id"""
    return [tuple(row.values()) for row in await rows(rig, query, sensor.sensor_id)]


async def test_first_version_holds_for_all_time(rig, lab):
    """Samples may have come before the calibration; the channels are made where they do not exist yet."""
    sensor = await make_sensor(lab)
    await rows(rig, "INSERT INTO channels (sensor_id, signal, unit) VALUES (%s, 'y', 'V')", sensor.sensor_id)
    await make_profile(lab, sensor.sensor_id, y=2.0, x=3.0)
    assert await mapping(rig, sensor) == [("x", 1, True, True), ("y", 1, True, True)]
    channels = await rows(rig, "SELECT signal, unit FROM channels WHERE sensor_id = %s", sensor.sensor_id)
    assert sorted(tuple(row.values()) for row in channels) == [("x", ""), ("y", "V")]


async def test_draft_holds_for_nothing(rig, lab):
    """Only publishing does."""
    sensor = await make_sensor(lab)
    await make_profile(lab, sensor.sensor_id, publish=False, x=2.0)
    assert await mapping(rig, sensor) == []


async def test_next_version_holds_from_now_on(rig, lab):
    """The time before stays the old version's; a signal that is new has no time before."""
    sensor = await make_sensor(lab)
    await make_profile(lab, sensor.sensor_id, x=2.0)
    await make_profile(lab, sensor.sensor_id, x=3.0, y=1.5)
    assert await mapping(rig, sensor) == [("x", 1, True, True), ("x", 2, False, True), ("y", 2, True, True)]
    query = """SELECT lower(valid) BETWEEN published_at AND now() AS held
        FROM channel_profiles JOIN conversion_profiles USING (conversion_profile_id)
        WHERE sensor_id = %s AND NOT lower_inf(valid)"""
    assert await rows(rig, query, sensor.sensor_id) == [{"held": True}]


async def test_signal_that_the_next_version_does_not_convert(rig, lab):
    """It is mapped to the new version once, so that the old one does not go on converting it."""
    sensor = await make_sensor(lab)
    await make_profile(lab, sensor.sensor_id, x=2.0, y=2.0)
    await make_profile(lab, sensor.sensor_id, x=3.0)
    await make_profile(lab, sensor.sensor_id, x=4.0)
    later = (await mapping(rig, sensor))[2:]
    assert later == [("x", 2, False, True), ("y", 2, False, True), ("x", 3, False, True)]


async def test_mapping_names_who_applied_it(rig, lab):
    """As the events do."""
    sensor = await make_sensor(lab)
    await make_profile(lab, sensor.sensor_id, x=2.0)
    query = "SELECT applied_by FROM channel_profiles JOIN channels USING (channel_id) WHERE sensor_id = %s"
    assert await rows(rig, query, sensor.sensor_id) == [{"applied_by": f"user:{lab.editor.user_id}"}]
