# A Lambda function's role in Terraform, in the stack's account, that may queue messages.
data "aws_ssm_parameter" "queue_url" {
  name = "/optus-sms/optus-sms/OutboundQueueUrl"
}

data "aws_ssm_parameter" "sender_policy" {
  name = "/optus-sms/optus-sms/SenderPolicyArn"
}

resource "aws_iam_role" "reminders" {
  name = "reminders"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "may_queue_messages" {
  role       = aws_iam_role.reminders.name
  policy_arn = data.aws_ssm_parameter.sender_policy.value
}

output "outbound_queue_url" {
  value     = data.aws_ssm_parameter.queue_url.value
  sensitive = true
}
