// A step of a Jenkins pipeline. Make this directory (with `resources`) the root of a global shared library. Then:
//   reportDeployment service: 'backend', version: env.GIT_COMMIT, environment: 'production'
// `credentialsId` names a credential of the kind "Secret text": a token with the scope `deploy`.
def call(Map args) {
    def script = ".report-deployment-${UUID.randomUUID()}.py"
    writeFile file: script, text: libraryResource('report-deployment.py')
    try {
        withCredentials([string(credentialsId: args.credentialsId ?: 'responder-token', variable: 'RESPONDER_TOKEN')]) {
            // As environment variables: their text never becomes a part of the script.
            withEnv([
                "SCRIPT=${script}",
                "RESPONDER_URL=${args.url ?: env.RESPONDER_URL ?: ''}",
                "SERVICE=${args.service}",
                "VERSION=${args.version}",
                "ENVIRONMENT=${args.environment ?: ''}",
                "PLATFORM=${args.platform ?: ''}",
                "ARTIFACT=${args.artifact ?: ''}",
                "GOOD=${args.good ?: false}"
            ]) {
                sh label: 'Report the deployment', script: '''
                    [ "$GOOD" = true ] && set -- --good
                    python3 "$SCRIPT" --environment "$ENVIRONMENT" --platform "$PLATFORM" --artifact "$ARTIFACT" \\
                        --provenance "$BUILD_URL" "$@" -- "$SERVICE" "$VERSION"
                '''
            }
        }
    } finally {
        sh "rm -f '${script}'"
    }
}
