"""The people: devices at home, visitors, browsers."""
