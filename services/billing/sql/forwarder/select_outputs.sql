-- Where usage of some partitions lies in the log at the latest.
SELECT output_partition, incarnation, max(log_offset) FROM outputs WHERE partition = ANY ($1) GROUP BY output_partition, incarnation
