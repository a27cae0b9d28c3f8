"""A comparison as one HTML page that needs nothing else: `page.write_report`."""
