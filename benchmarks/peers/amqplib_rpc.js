// Node's amqplib, raw RPC: the default exchange, an exclusive queue for answers, no acks, noDelay, msgpack5.
// It has the interface that protocol.py describes.
'use strict'

const amqp = require('amqplib')
const msgpack = require('msgpack5')()
const readline = require('readline')

const QUEUE = 'amqplib'
const payload = size => ({ method: 'GET', text: 'x'.repeat(size) })

async function open (url) {
  const connection = await amqp.connect(url, { noDelay: true })
  return connection.createChannel()
}

async function work (url) {
  const channel = await open(url)
  await channel.assertQueue(QUEUE, { autoDelete: true, durable: false })
  await channel.consume(QUEUE, message => {
    const { replyTo, correlationId } = message.properties
    const answer = msgpack.encode(msgpack.decode(message.content)).slice()
    channel.sendToQueue(replyTo, answer, { correlationId })
  }, { noAck: true })
  console.log('ready')
}

async function send (url) {
  const channel = await open(url)
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true })
  const pending = new Map()
  let number = 0
  await channel.consume(replyTo, message => {
    const { correlationId } = message.properties
    const answered = pending.get(correlationId)
    pending.delete(correlationId)
    answered(msgpack.decode(message.content))
  }, { noAck: true })

  const call = data => new Promise(resolve => {
    const correlationId = String(number++)
    pending.set(correlationId, resolve)
    channel.sendToQueue(QUEUE, msgpack.encode(data).slice(), { correlationId, replyTo })
  })

  const first = await call(payload(64))
  if (JSON.stringify(first) !== JSON.stringify(payload(64))) throw new Error('the answer is not the request')
  console.log('ready')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await measure(call, ...line.split(' ').map(Number))
  }
  process.exit(0)
}

async function measure (call, inFlight, seconds, size) {
  const data = payload(size)
  const took = []
  const began = performance.now()
  const until = began + seconds * 1000
  const repeat = async () => {
    for (let now = began; now < until;) {
      const sent = performance.now()
      await call(data)
      now = performance.now()
      took.push(now - sent)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, repeat))
  const all = (performance.now() - began) / 1000
  took.sort((a, b) => a - b)
  const at = percent => took[Math.floor(took.length * percent / 100)]
  console.log(JSON.stringify({ jobs: took.length, seconds: all, p50_ms: at(50), p99_ms: at(99) }))
}

const [role, url] = process.argv.slice(2)
;({ work, send })[role](url)
