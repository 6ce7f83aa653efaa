"""Places that keep objects: a directory, or S3. The only importer of boto3."""
