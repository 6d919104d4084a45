"""The workers on the bus: their announcements, the list of them, and inquiries about addresses."""
