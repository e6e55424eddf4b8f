// Opens pages in Chromium with every detail open, in light, dark and print, and prints as JSON what axe-core and the
// browser complain about. Usage: node axe.mjs CHROMIUM MODULES PAGE...
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [chromiumPath, modules, ...pages] = process.argv.slice(2)
const { chromium } = createRequire(join(modules, 'index.js'))('playwright-core')
const axe = readFileSync(join(modules, 'axe-core', 'axe.min.js'), 'utf8')
const looks = [['light', 'screen'], ['dark', 'screen'], ['light', 'print']]

const browser = await chromium.launch({ executablePath: chromiumPath, args: ['--no-sandbox', '--disable-gpu'] })
const found = []
for (const file of pages) {
  for (const [colorScheme, media] of looks) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: true })
    const page = await context.newPage()
    const requests = [], messages = []
    page.on('request', request => { if (!/^(file|data):/.test(request.url())) requests.push(request.url()) })
    page.on('console', message => messages.push(message.text()))
    page.on('pageerror', error => messages.push(String(error)))
    await page.emulateMedia({ colorScheme, media })
    await page.goto(pathToFileURL(file).href)
    const overflow = {}
    for (const width of [360, 1280]) {
      await page.setViewportSize({ width, height: 900 })
      overflow[width] = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
    }
    await page.evaluate(() => document.querySelectorAll('details').forEach(detail => { detail.open = true }))
    await page.addScriptTag({ content: axe })
    const result = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }))
    const violations = result.violations.map(v => `${v.id}: ${v.nodes[0].html.slice(0, 200)}`)
    found.push({ file, look: `${colorScheme} ${media}`, passes: result.passes.length, violations, requests, messages, overflow })
    await context.close()
  }
}
await browser.close()
console.log(JSON.stringify(found))
