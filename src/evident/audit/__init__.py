"""Evidence, endorsements, policy, time and result in one signed bundle, and its replay offline."""
