# cmake -DNPM=<npm> -DSOURCE=<folder of package-lock.json> -DFOLDER=<where to install> -P install_packages.cmake
# Installs the pinned packages; does nothing when those of the same lock file are there already.
file(SHA256 ${SOURCE}/package-lock.json wanted)
set(stamp ${FOLDER}/installed)
if(EXISTS ${stamp})
  file(READ ${stamp} present)
  if(present STREQUAL wanted)
    return()
  endif()
endif()
file(REMOVE ${stamp})
file(COPY ${SOURCE}/package.json ${SOURCE}/package-lock.json ${SOURCE}/.npmrc DESTINATION ${FOLDER})
execute_process(
  COMMAND ${NPM} ci --no-audit --no-fund --loglevel=error --fetch-retries=2 --fetch-retry-mintimeout=2000
          --fetch-retry-maxtimeout=10000 --fetch-timeout=60000
  WORKING_DIRECTORY ${FOLDER}
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR
    "npm ci could not install the packages of ${SOURCE} (result: ${result}). They come from the npm registry this "
    "machine is configured for, once; without a network leave these tests out with: ctest -LE interop")
endif()
file(WRITE ${stamp} ${wanted})
