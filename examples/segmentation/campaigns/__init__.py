"""Campaigns: many trainings for one table or figure, beside the numbers of the paper."""
